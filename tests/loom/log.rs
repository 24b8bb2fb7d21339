//! The shared log: published under a lock, with a note left for the waker, read by subscribers that hold cursors.
//!
//! The log is the product's. The lock, the note (`tokio::sync::Notify`) and the wake-ups (`tokio::sync::watch`) are what the
//! hub and its registry make of them, over loom's types: the hub itself needs a runtime that no model has.

use std::sync::Arc;

use bytes::Bytes;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Condvar, Mutex, RwLock};
use loom::thread;
use rescind::replication::{Cursor, FramedLog, LogEntry, LogPoint, LogRead};
use rescind::revocation::{Chain, Digest, Minute, Revision};

/// So many revisions are published.
const REVISIONS: u64 = 2;

/// Which order is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The note is left before the revision is in the log.
    NoteBeforePush,
    /// A subscriber notes which wake-up it has seen after it read the log, not before.
    SeenAfterRead,
    /// A heartbeat is made for the log's end, and put there once the lock was let go of in between.
    BeatOutsideLock,
}

/// A note that waits for whoever takes it; several are one.
#[derive(Default)]
struct Note(Mutex<bool>, Condvar);

impl Note {
    fn leave(&self) {
        *self.0.lock().expect("sound") = true;
        self.1.notify_one();
    }

    fn take(&self) {
        let mut left = self.0.lock().expect("sound");
        while !*left {
            left = self.1.wait(left).expect("sound");
        }
        *left = false;
    }
}

/// Counts wake-ups for those who wait for another than they have seen.
#[derive(Default)]
struct Wakes(Mutex<u64>, Condvar);

impl Wakes {
    fn count(&self) -> u64 {
        *self.0.lock().expect("sound")
    }

    fn wake(&self) {
        *self.0.lock().expect("sound") += 1;
        self.1.notify_all();
    }

    /// Waits for another wake-up than this one, and says which that is.
    fn changed(&self, seen: u64) -> u64 {
        let mut count = self.0.lock().expect("sound");
        while *count == seen {
            count = self.1.wait(count).expect("sound");
        }
        *count
    }
}

struct Hub {
    log: RwLock<FramedLog>,
    changed: Note,
    wakes: Wakes,
    stopping: AtomicBool,
    broken: Broken,
}

fn point(revision: u64) -> LogPoint {
    LogPoint {
        revision: Revision(revision),
        digest: Digest::default(),
        chain: Chain::default(),
        floor: Minute::default(),
    }
}

impl Hub {
    fn new(broken: Broken) -> Arc<Self> {
        Arc::new(Self {
            log: RwLock::new(FramedLog::new(point(0), 1 << 20)),
            changed: Note::default(),
            wakes: Wakes::default(),
            stopping: AtomicBool::new(false),
            broken,
        })
    }

    fn append(&self, revision: u64) {
        if self.broken == Broken::NoteBeforePush {
            self.changed.leave();
        }
        let frame = Bytes::from(format!("d{revision}"));
        self.log.write().expect("sound").push(LogEntry { point: point(revision), frame }).expect("the next revision");
        if self.broken != Broken::NoteBeforePush {
            self.changed.leave();
        }
    }

    fn heartbeat(&self) {
        let frame = |log: &FramedLog| Bytes::from(format!("h{}", log.head().revision));
        if self.broken == Broken::BeatOutsideLock {
            let frame = frame(&self.log.read().expect("sound"));
            self.log.write().expect("sound").push_heartbeat(frame);
        } else {
            let mut log = self.log.write().expect("sound");
            let frame = frame(&log);
            log.push_heartbeat(frame);
        }
        self.changed.leave();
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.changed.leave();
    }

    fn run(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.changed.take();
            self.wakes.wake();
        }
        self.wakes.wake();
    }

    /// Reads until everything came, as a subscription does: what there is, and then it waits.
    fn follow(&self) {
        let (mut cursor, mut at) = (Cursor::default(), 0);
        let mut seen = self.wakes.count();
        loop {
            let read = self.log.read().expect("sound").read(cursor, 1 << 10);
            let LogRead::Frames(frames) = read else { panic!("nothing falls out of the log here") };
            for (frame, after) in frames {
                cursor = after;
                let revision = String::from_utf8_lossy(&frame[1..]).parse().expect("a revision");
                if frame[0] == b'd' {
                    assert_eq!(revision, at + 1, "deltas go on without a gap");
                    at = revision;
                } else {
                    assert_eq!(revision, at, "a heartbeat stands behind the revision that it speaks of");
                }
            }
            if at == REVISIONS {
                return;
            }
            if self.broken == Broken::SeenAfterRead {
                seen = self.wakes.count();
            }
            seen = self.wakes.changed(seen);
        }
    }
}

/// An author, the waker and a subscriber. Whoever is never woken again is a deadlock, which loom finds.
fn publishing(broken: Broken) {
    loom::model(move || {
        let hub = Hub::new(broken);
        let [waker, subscriber] = [Arc::clone(&hub), Arc::clone(&hub)];
        let waker = thread::spawn(move || waker.run());
        let subscriber = thread::spawn(move || subscriber.follow());
        (1..=REVISIONS).for_each(|revision| hub.append(revision));
        subscriber.join().expect("it got everything");
        hub.stop();
        waker.join().expect("it stops");
    });
}

/// Two authors of frames, one of deltas and one of heartbeats, and whoever reads them then.
fn beating(broken: Broken) {
    loom::model(move || {
        let hub = Hub::new(broken);
        let other = Arc::clone(&hub);
        let beat = thread::spawn(move || other.heartbeat());
        (1..=REVISIONS).for_each(|revision| hub.append(revision));
        beat.join().expect("it beats");
        hub.follow();
    });
}

#[test]
fn every_subscriber_gets_everything_that_is_published() {
    publishing(Broken::Nothing);
}

#[test]
fn a_heartbeat_stands_where_it_was_made_for() {
    beating(Broken::Nothing);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_note_left_before_the_revision_is_there_is_found_out() {
    publishing(Broken::NoteBeforePush);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_up_noted_after_reading_is_found_out() {
    publishing(Broken::SeenAfterRead);
}

#[test]
#[should_panic(expected = "a heartbeat stands behind")]
fn a_heartbeat_made_outside_the_lock_is_found_out() {
    beating(Broken::BeatOutsideLock);
}
