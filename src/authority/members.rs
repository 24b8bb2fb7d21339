//! Who ought to be following, here and below relays, kept over restarts: everybody who ever said Hello, until it says
//! goodbye, runs out or is forgotten.
//!
//! ```text
//! Hello, ack, roster, leave ──▶ Fleet ── changed ──▶ thread "members" ── one transaction ──▶ members.sqlite
//!                                 ▲                        └ written ──▶ whoever waits to be welcomed
//! propagation ── count, list ─────┘
//! ```
//!
//! # Invariants
//! - R1. Nobody is welcomed here before it is durable; if that fails it is served all the same, and [`Roster::trouble`] says
//!   so until it is mended. Those below relays are durable as soon as the disk allows, together with how much of its
//!   relay's word that was.
//! - R2. What is stored of a policy is never stricter than what the member may be doing.

mod seats;
mod table;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

pub use crate::replication::fleet::Forgot;

use crate::clock::Clock;
use crate::journal::{MEMBERS_MAX, MemberTable};
use crate::replication::Moment;
use crate::replication::fleet::{Fleet, Member, Place};
use crate::replication::frames::{About, NodeId, PolicyInForce, ROSTER_MAX};
use crate::replication::propagation::{Counted, Report, report};
use crate::revocation::ports::Pending;
use crate::revocation::{Epoch, Revision, RevocationSet};
use table::{Book, kept};

/// Stands for all who followed before there was a table: `forget` takes it off.
pub const UNKNOWN: &str = "whoever-followed-before";

/// How long a joiner waits for the disk; then it is served without, and answers are incomplete until it is stored.
const ADMISSION_MAX: Duration = Duration::from_secs(2);

/// A member, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterMember {
    /// Its process.
    pub id: NodeId,
    /// Where it is.
    pub place: Place,
    /// The relay it is or was connected to; `None`: to this server.
    pub parent: Option<NodeId>,
    /// What is known of it; what it acknowledged is at least that by now.
    pub about: About,
    /// Of a relay: how many are known below it, and how many of them are ready.
    pub below: (u64, u64),
}

/// Owns the table, and the thread that writes it.
pub struct Roster {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    set: Arc<RevocationSet>,
    clock: Clock,
    book: Mutex<Book>,
    changed: Condvar,
    /// How many marks are behind the writer, well or not.
    written: watch::Sender<u64>,
}

impl Roster {
    /// Opens the table in `dir`. If there is none although the log `has_past` (a backup was restored, the file was deleted),
    /// [`UNKNOWN`] is a member that is cut off, until somebody answers for it. If opening fails everybody is served, and [`Roster::trouble`] says why nothing is remembered.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(
        dir: &Path,
        epoch: Epoch,
        has_past: bool,
        set: Arc<RevocationSet>,
        clock: Clock,
    ) -> std::io::Result<Arc<Self>> {
        let mut fleet = Fleet::new(None, MEMBERS_MAX);
        fleet.set_epoch(epoch.id);
        fleet.handle_logged(set.revision(), PolicyInForce::of(&set.policy()));
        let mut book = Book::new(fleet);
        let first: Vec<_> = has_past.then(|| table::unknown(set.policy().max_staleness)).into_iter().collect();
        let table = match MemberTable::open(dir, &first) {
            Ok((table, stored)) => {
                let now = Moment { boot: clock.boot().0, wall: clock.wall() };
                book.fleet.restore(now, stored.iter().map(kept));
                book.stored = stored.into_iter().map(|stored| (NodeId(stored.id), stored)).collect();
                book.is_kept = true;
                Some(table)
            }
            Err(error) => {
                tracing::error!(%error, "no member is remembered; waiting for propagation is never complete");
                book.trouble = Some(error.to_string());
                None
            }
        };
        let (changed, written) = (Condvar::new(), watch::Sender::new(0));
        let shared = Arc::new(Shared { set, clock, book: Mutex::new(book), changed, written });
        let thread = match table {
            Some(table) => {
                let shared = Arc::clone(&shared);
                Some(std::thread::Builder::new().name("members".into()).spawn(move || shared.run(table))?)
            }
            None => None,
        };
        Ok(Arc::new(Self { shared, thread: Mutex::new(thread) }))
    }

    /// Members in the order of their ids, at most `count` after `after`, those that have run out taken off.
    #[must_use]
    pub fn list(&self, after: Option<NodeId>, count: usize) -> Vec<RosterMember> {
        self.shared.change(|book, now| {
            book.fleet.expire(now, self.shared.skew());
            let counts = book.fleet.below_counts();
            let listed = |(id, member): (NodeId, &Member)| RosterMember {
                id,
                place: member.place(),
                parent: member.parent(),
                about: About { acked: book.fleet.applied(member).unwrap_or_default(), ..member.about().clone() },
                below: counts.get(&id).copied().unwrap_or_default(),
            };
            let members = book.fleet.members().filter(|(id, _)| after.is_none_or(|after| *id > after));
            members.take(count).map(listed).collect()
        })
    }

    /// The seats of those that are served and are no members, for lack of room.
    #[must_use]
    pub fn unlisted_seats(&self) -> BTreeSet<u64> {
        self.shared.book.lock().fleet.unlisted_seats().clone()
    }

    /// How far a revision has come among all members, and `others`.
    #[must_use]
    pub fn report(&self, revision: Revision, others: Vec<Counted>) -> Report {
        self.shared.change(|book, now| {
            book.fleet.expire(now, self.shared.skew());
            let fleet = &book.fleet;
            let members = fleet.counted().chain(others);
            report(members, fleet.unlisted_below(), &fleet.furthest_behind(), revision)
        })
    }

    /// Its name behind those of the relays it is below: `relay/name`.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        self.shared.book.lock().fleet.name_of(id)
    }

    /// How many members are cut off.
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        self.shared.change(|book, now| {
            book.fleet.expire(now, self.shared.skew());
            book.fleet.cut_off()
        })
    }

    /// Why the members cannot be relied on; `None` when they can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let book = self.shared.book.lock();
        if let Some(trouble) = &book.trouble {
            return Some(trouble.clone());
        }
        let unlisted = book.fleet.unlisted();
        if unlisted > 0 {
            return Some(format!("{unlisted} subscribers are not remembered: the table holds {MEMBERS_MAX} members"));
        }
        let below = book.fleet.unlisted_below();
        if below > 0 {
            return Some(format!("{below} subscribers below relays are not known: a relay names at most {ROSTER_MAX}"));
        }
        let waiting = book.waiting();
        (waiting > 0).then(|| format!("{waiting} members are not durable yet"))
    }

    /// Takes off the members with this id, or else all with this name, that are cut off. Resolves once that is durable, or
    /// known not to be.
    pub async fn forget(&self, id: Option<NodeId>, name: &str) -> Forgot {
        let (forgot, admission) = self.shared.change_and_wait(|book, now| book.fleet.forget(now, id, name));
        if let Forgot::Members(_) = forgot {
            admission.await;
        }
        forgot
    }

    /// Resolves once everything that is known of members by now is durable, or known not to be.
    pub async fn durable(&self) {
        let ((), written) = self.shared.change_and_wait(|_, _| ());
        written.await;
    }

    /// Writes what is left, and ends the thread.
    pub fn stop(&self) {
        self.shared.book.lock().stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes members failed");
        }
    }
}

impl Shared {
    fn skew(&self) -> Duration {
        self.set.policy().clock_skew_max
    }

    fn now(&self) -> Moment {
        Moment { boot: self.clock.boot().0, wall: self.clock.wall() }
    }

    /// Changes the book, and has written what is to be kept of that.
    fn change<T>(&self, change: impl FnOnce(&mut Book, Moment) -> T) -> T {
        let now = self.now();
        let mut book = self.book.lock();
        self.tell_logged(&mut book);
        let answer = change(&mut book, now);
        self.mark(&mut book);
        answer
    }

    /// The same, and what resolves once that was written.
    fn change_and_wait<T>(&self, change: impl FnOnce(&mut Book, Moment) -> T) -> (T, Pending<'static, ()>) {
        let now = self.now();
        let mut book = self.book.lock();
        self.tell_logged(&mut book);
        let answer = change(&mut book, now);
        self.mark(&mut book);
        let admission = self.admission(&book);
        (answer, admission)
    }

    /// The policy in force here, which nobody below can have before.
    fn tell_logged(&self, book: &mut Book) {
        let logged = PolicyInForce::of(&self.set.policy());
        book.fleet.handle_logged(self.set.revision(), logged);
    }

    fn mark(&self, book: &mut Book) {
        if book.mark() {
            self.changed.notify_one();
        }
    }

    /// Resolves once all marks so far are behind the writer.
    fn admission(&self, book: &Book) -> Pending<'static, ()> {
        let (marks, mut written) = (book.marks, self.written.subscribe());
        if book.trouble.is_some() {
            return Box::pin(std::future::ready(()));
        }
        Box::pin(async move {
            // Late or never: it is served, and told as not durable.
            let _ = tokio::time::timeout(ADMISSION_MAX, written.wait_for(|written| *written >= marks)).await;
        })
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
