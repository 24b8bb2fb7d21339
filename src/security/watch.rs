//! Looks whether files have changed, and has what is made of them replaced.
//!
//! The files are read and compared every few seconds: no notification of the system tells of a changed link on every
//! kind of mount, and links are how secrets are rotated. SIGHUP has everything read again at once.
//!
//! A change counts once two looks in a row have seen the same: a certificate and its key are two files, and are not written
//! in one instant.

use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::credential::without_credentials;
use super::file::{on_one_line, read_file};

/// How often files are looked at: a change is in force within twice this time.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The largest file that is looked at, in bytes: as large as anything that is read from one.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why what was made of files is not replaced.
pub type ReloadError = Box<dyn Error + Send + Sync>;

/// What is made of files, and replaced while the process runs.
pub trait Watched: Send + Sync {
    /// What it is, for the log and the metrics: one word.
    fn name(&self) -> &'static str;

    /// The files it is made of.
    fn files(&self) -> Vec<PathBuf>;

    /// Reads the files and puts what they say in force, as a whole; called from a thread that may block.
    ///
    /// # Errors
    /// When that cannot be done. Nothing has changed then.
    fn reload(&self) -> Result<(), ReloadError>;
}

/// How often something was replaced.
#[derive(Debug)]
pub struct Reloads {
    name: &'static str,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    fn of(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, done: AtomicU64::new(0), failed: AtomicU64::new(0) })
    }

    /// What: [`Watched::name`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Times that other content was put in force; not those that it was read again and had not changed.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Times that the files could not be used.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The task that looks. Dropping it stops it, too, without waiting.
#[derive(Debug)]
pub struct Watcher {
    task: JoinHandle<()>,
    stop: CancellationToken,
    reloads: Vec<Arc<Reloads>>,
}

impl Watcher {
    /// Begins to look. Whatever comes over `wakes` has everything read again at once, changed or not.
    ///
    #[must_use]
    pub fn spawn(watched: Vec<Arc<dyn Watched>>, wakes: mpsc::Receiver<()>) -> Self {
        let stop = CancellationToken::new();
        let watches: Vec<Watch> = watched.into_iter().map(Watch::of).collect();
        let reloads = watches.iter().map(|watch| Arc::clone(&watch.reloads)).collect();
        Self { task: tokio::spawn(run(watches, wakes, stop.clone())), stop, reloads }
    }

    /// What was replaced how often, in the order given.
    #[must_use]
    pub fn reloads(&self) -> Vec<Arc<Reloads>> {
        self.reloads.clone()
    }

    /// Stops looking, and waits until a look that has begun is over.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "watching files ended badly");
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(mut watches: Vec<Watch>, mut wakes: mpsc::Receiver<()>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let is_told = tokio::select! {
            () = stop.cancelled() => return,
            Some(()) = wakes.recv() => true,
            _ = ticks.tick() => false,
        };
        if is_told && watches.is_empty() {
            tracing::info!("told to read files again; there are none");
        }
        let looked = spawn_blocking(move || {
            watches.iter_mut().for_each(|watch| watch.look(is_told));
            watches
        });
        match looked.await {
            Ok(again) => watches = again,
            Err(error) => {
                tracing::error!(%error, "files are no longer watched");
                return;
            }
        }
    }
}

/// The content of files; the default is that of none ever seen.
type Content = Option<[u8; 32]>;

/// One of those that are looked at.
struct Watch {
    watched: Arc<dyn Watched>,
    reloads: Arc<Reloads>,
    /// What is in force, or was refused.
    settled: Content,
    /// What is in force.
    in_force: Content,
    /// What the last look saw.
    seen: Content,
}

impl Watch {
    fn of(watched: Arc<dyn Watched>) -> Self {
        Self { reloads: Reloads::of(watched.name()), watched, settled: None, in_force: None, seen: None }
    }

    fn look(&mut self, is_told: bool) {
        let now = content(&self.watched.files());
        let is_first = self.seen.is_none();
        let is_still = self.seen.replace(now) == Some(now);
        // The first look cannot tell whether they have changed since they were read at the start.
        if is_told || is_first || (is_still && self.settled != Some(now)) {
            self.settled = Some(now);
            self.reload(now);
        }
    }

    fn reload(&mut self, now: [u8; 32]) {
        let what = self.watched.name();
        match self.watched.reload() {
            Ok(()) => match self.in_force.replace(now) {
                // Read at the start, as far as anybody knows.
                None if self.reloads.failed() == 0 => {}
                Some(before) if before == now => tracing::info!(what, "files were read again and have not changed"),
                _ => {
                    self.reloads.done.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(what, "files were read again and are in force");
                }
            },
            Err(error) => {
                self.reloads.failed.fetch_add(1, Ordering::Relaxed);
                // A file may hold a secret in the wrong place, which is what is wrong with it.
                let error = on_one_line(&*error);
                let error = without_credentials(&error);
                tracing::error!(what, %error, "files cannot be used; what was in force before stays");
            }
        }
    }
}

/// The content and the permissions of all files: some are refused for who may write them. One that cannot be read counts as a
/// content of its own.
fn content(files: &[PathBuf]) -> [u8; 32] {
    let mut all = Sha256::new();
    for path in files {
        all.update(digest(path));
        let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
        all.update(mode.to_le_bytes());
    }
    all.finalize().into()
}

fn digest(path: &Path) -> [u8; 32] {
    match read_file(path, FILE_BYTES_MAX) {
        Ok(bytes) => Sha256::digest(&*bytes).into(),
        Err(_) => [0; 32],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that may hold anything but "bad", and that not everybody may write.
    struct Good(PathBuf, parking_lot::Mutex<String>);

    impl Watched for Good {
        fn name(&self) -> &'static str {
            "tls"
        }

        fn files(&self) -> Vec<PathBuf> {
            vec![self.0.clone()]
        }

        fn reload(&self) -> Result<(), ReloadError> {
            let text = std::fs::read_to_string(&self.0)?;
            if text == "bad" || std::fs::metadata(&self.0)?.permissions().mode() & 0o002 != 0 {
                return Err("bad".into());
            }
            *self.1.lock() = text;
            Ok(())
        }
    }

    fn watch(dir: &tempfile::TempDir) -> (Arc<Good>, Watch) {
        let path = dir.path().join("f");
        std::fs::write(&path, "one").unwrap();
        let good = Arc::new(Good(path, parking_lot::Mutex::new("one".to_owned())));
        let mut watch = Watch::of(good.clone());
        watch.look(false);
        (good, watch)
    }

    fn counts(watch: &Watch) -> (u64, u64) {
        (watch.reloads.done(), watch.reloads.failed())
    }

    #[test]
    fn a_change_counts_once_it_was_seen_twice() {
        let dir = tempfile::tempdir().unwrap();
        let (good, mut watch) = watch(&dir);
        watch.look(false);
        assert_eq!(counts(&watch), (0, 0), "nothing has changed");
        std::fs::write(&good.0, "half").unwrap();
        watch.look(false);
        std::fs::write(&good.0, "two").unwrap();
        watch.look(false);
        assert_eq!(counts(&watch), (0, 0), "it may not be finished");
        (0..3).for_each(|_| watch.look(false));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((1, 0), "two"));
    }

    #[test]
    fn a_bad_file_changes_nothing_and_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let (good, mut watch) = watch(&dir);
        std::fs::write(&good.0, "bad").unwrap();
        (0..5).for_each(|_| watch.look(false));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((0, 1), "one"));
        std::fs::remove_file(&good.0).unwrap();
        (0..5).for_each(|_| watch.look(false));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((0, 2), "one"));
        std::fs::write(&good.0, "three").unwrap();
        (0..5).for_each(|_| watch.look(false));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((1, 2), "three"));
    }

    #[test]
    fn a_file_whose_permissions_change_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (good, mut watch) = watch(&dir);
        let permit = |mode| std::fs::set_permissions(&good.0, std::fs::Permissions::from_mode(mode)).unwrap();
        permit(0o646);
        std::fs::write(&good.0, "two").unwrap();
        (0..5).for_each(|_| watch.look(false));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((0, 1), "one"));
        permit(0o640);
        (0..5).for_each(|_| watch.look(false));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((1, 1), "two"));
    }

    #[test]
    fn a_change_before_the_first_look_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let (good, _) = watch(&dir);
        std::fs::write(&good.0, "two").unwrap();
        Watch::of(good.clone()).look(false);
        assert_eq!(good.1.lock().as_str(), "two");
    }

    #[test]
    fn who_is_told_reads_at_once_whatever_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (good, mut watch) = watch(&dir);
        std::fs::write(&good.0, "two").unwrap();
        watch.look(true);
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((1, 0), "two"));
        watch.look(true);
        (0..3).for_each(|_| watch.look(false));
        assert_eq!(counts(&watch), (1, 0), "nothing has changed since");
    }

    #[test]
    fn who_is_told_of_a_bad_file_counts_it_each_time_and_its_repair_once() {
        let dir = tempfile::tempdir().unwrap();
        let (good, mut watch) = watch(&dir);
        std::fs::write(&good.0, "bad").unwrap();
        (0..2).for_each(|_| watch.look(true));
        assert_eq!(counts(&watch), (0, 2));
        std::fs::write(&good.0, "two").unwrap();
        (0..2).for_each(|_| watch.look(true));
        assert_eq!((counts(&watch), good.1.lock().as_str()), ((1, 2), "two"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_looks_by_itself_and_when_woken_and_stops() {
        let dir = tempfile::tempdir().unwrap();
        let (good, _) = watch(&dir);
        std::fs::write(&good.0, "bad").unwrap();
        let (wake, wakes) = mpsc::channel(1);
        let watcher = Watcher::spawn(vec![good.clone()], wakes);
        let reloads = watcher.reloads().remove(0);
        while reloads.failed() == 0 {
            tokio::task::yield_now().await;
        }
        // No time passes.
        wake.send(()).await.unwrap();
        while reloads.failed() == 1 {
            tokio::task::yield_now().await;
        }
        std::fs::write(&good.0, "two").unwrap();
        while reloads.done() == 0 {
            tokio::time::advance(WATCH_INTERVAL).await;
        }
        assert_eq!(good.1.lock().as_str(), "two");
        watcher.stop().await;
        assert!(wake.is_closed());
    }
}
