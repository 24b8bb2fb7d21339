//! What threads share state by, in one place, so that a build with `--cfg loom` can replace it by what the model checker
//! sees (`make loom`). In every other build these are the types themselves.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
pub use arc_swap::ArcSwap;
#[cfg(not(loom))]
pub use parking_lot::{Mutex, RwLock};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use modelled::{ArcSwap, Mutex, RwLock};

/// The same interfaces over loom's types.
#[cfg(loom)]
mod modelled {
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

    const SOUND: &str = "nothing panics while it holds a lock, or the model has failed already";

    /// A mutex that no panic poisons.
    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect(SOUND)
        }
    }

    /// A lock that no panic poisons.
    #[derive(Debug)]
    pub struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::RwLock::new(value))
        }

        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().expect(SOUND)
        }

        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().expect(SOUND)
        }
    }

    /// A pointer that is replaced as a whole: a number that the model checker sees, and every value there ever was behind it.
    /// It orders what `arc_swap` promises to order, an acquiring load after a releasing store, and nothing more.
    #[derive(Debug)]
    pub struct ArcSwap<T> {
        current: AtomicUsize,
        /// Not seen by the model checker: to take a value out of it orders nothing.
        values: std::sync::Mutex<Vec<Arc<T>>>,
    }

    impl<T> ArcSwap<T> {
        pub fn from_pointee(value: T) -> Self {
            Self { current: AtomicUsize::new(0), values: std::sync::Mutex::new(vec![Arc::new(value)]) }
        }

        pub fn load(&self) -> Arc<T> {
            self.value(self.current.load(Ordering::Acquire))
        }

        pub fn rcu(&self, change: impl Fn(&Arc<T>) -> T) {
            let mut current = self.current.load(Ordering::Acquire);
            loop {
                let next = Arc::new(change(&self.value(current)));
                let place = {
                    let mut values = self.values.lock().expect(SOUND);
                    values.push(next);
                    values.len() - 1
                };
                match self.current.compare_exchange(current, place, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return,
                    Err(other) => current = other,
                }
            }
        }

        fn value(&self, place: usize) -> Arc<T> {
            Arc::clone(&self.values.lock().expect(SOUND)[place])
        }
    }
}
