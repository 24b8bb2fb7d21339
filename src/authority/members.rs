//! Who ought to be following: everybody who ever said Hello, until it says goodbye, runs out or is forgotten.
//!
//! ```text
//! Hello, ack, leave ──▶ Roster ── marks ──▶ thread "members" ── one transaction ──▶ members.sqlite
//!                          ▲                        └ written ──▶ whoever waits to be welcomed
//! propagation ── list ─────┘
//! ```
//!
//! # Invariants
//! - R1. Nobody is welcomed before it is durable here; if that fails it is served all the same, and [`Roster::trouble`]
//!   says so until it is mended.
//! - R2. A member leaves by a goodbye, by [`Roster::forget`], or by running out: it denies when stale, and has been cut off
//!   for its `max_staleness` and `clock_skew_max`. One that serves stale never runs out.
//! - R3. What is stored of a policy is never stricter than what the member may be doing.

mod seats;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::journal::{MEMBERS_MAX, MemberChange, MemberTable, StoredMember};
use crate::replication::frames::{NodeId, PolicyInForce, Role, Subtree};
use crate::revocation::ports::Pending;
use crate::revocation::{RevocationSet, UnixMillis, WhenStale};

/// How long a joiner waits for the disk; then it is served without, and answers are incomplete until it is stored.
const ADMISSION_MAX: Duration = Duration::from_secs(2);
/// Between two attempts to write after one that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The most changes that wait for a disk that fails. Beyond, a member is stored with its next ack, and one that said goodbye
/// may be cut off after the next start: both only make an answer more cautious.
const DIRTY_MAX: usize = 2 * MEMBERS_MAX;

/// A member, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterMember {
    /// Its process.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What it and all below it do when stale, at the loosest.
    pub policy: PolicyInForce,
    /// Of a relay: what it last said about those below.
    pub subtree: Option<Subtree>,
    /// Its seat, or since when it has none.
    pub place: Place,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this seat.
    Seat(u64),
    /// Gone without a goodbye, or not back since the start.
    CutOff {
        /// On the wall clock.
        at: UnixMillis,
        /// On the boot-time clock.
        since: Duration,
        /// Not seen since this server started.
        at_start: bool,
    },
}

impl Place {
    /// Whether it has no seat.
    #[must_use]
    pub fn is_cut_off(self) -> bool {
        matches!(self, Self::CutOff { .. })
    }
}

/// What came of forgetting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forgot {
    /// So many, all of them cut off.
    Members(u64),
    /// Whoever was named is connected.
    Connected,
    /// Nobody is named so.
    Nobody,
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

#[derive(Default)]
struct Book {
    members: BTreeMap<NodeId, Entry>,
    /// To be written; bounded by the members and those that were removed since the last write.
    dirty: BTreeSet<NodeId>,
    marks: u64,
    trouble: Option<String>,
    /// There is a table to write.
    is_kept: bool,
    /// Seats of those that are served and not remembered, because there were too many; bounded by the seats.
    unlisted: BTreeSet<u64>,
    /// How many of those were cut off: nobody knows what they serve now, and nothing but a restart forgets it.
    lost: u64,
    stopping: bool,
}

struct Entry {
    member: RosterMember,
    /// The policy in the table; `None` before it is there.
    stored: Option<PolicyInForce>,
}

impl Roster {
    /// Opens the table in `dir`. If that fails everybody is served, and [`Roster::trouble`] says why nothing is remembered.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn open(dir: &Path, set: Arc<RevocationSet>, clock: Clock) -> std::io::Result<Arc<Self>> {
        let (at, since) = (clock.wall(), clock.boot().0);
        let mut book = Book::default();
        let table = match MemberTable::open(dir) {
            Ok((table, stored)) => {
                let place = Place::CutOff { at, since, at_start: true };
                book.members = stored.into_iter().map(|stored| remembered(stored, place)).collect();
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

    /// All members, those that have run out taken off.
    #[must_use]
    pub fn list(&self) -> Vec<RosterMember> {
        let mut book = self.shared.book.lock();
        self.shared.expire(&mut book);
        book.members.values().map(|entry| entry.member.clone()).collect()
    }

    /// How many members are cut off.
    #[must_use]
    pub fn cut_off(&self) -> u64 {
        let mut book = self.shared.book.lock();
        self.shared.expire(&mut book);
        book.members.values().filter(|entry| entry.member.place.is_cut_off()).count() as u64
    }

    /// Why the members cannot be relied on; `None` when they can.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let book = self.shared.book.lock();
        if let Some(trouble) = &book.trouble {
            return Some(trouble.clone());
        }
        let unlisted = book.lost.saturating_add(book.unlisted.len() as u64);
        if unlisted > 0 {
            return Some(format!("{unlisted} subscribers are not remembered: the table holds {MEMBERS_MAX} members"));
        }
        let waiting = book.members.values().filter(|entry| entry.stored.is_none()).count();
        (waiting > 0).then(|| format!("{waiting} members are not durable yet"))
    }

    /// Takes off the members with this id, or else all with this name, that are cut off. Resolves once that is durable, or
    /// known not to be.
    pub async fn forget(&self, id: Option<NodeId>, name: &str) -> Forgot {
        let (forgot, admission) = {
            let mut book = self.shared.book.lock();
            let named = |entry: &&Entry| id.map_or(entry.member.name == name, |id| entry.member.id == id);
            let all: Vec<(NodeId, bool)> = book
                .members
                .values()
                .filter(named)
                .map(|entry| (entry.member.id, entry.member.place.is_cut_off()))
                .collect();
            let gone: Vec<NodeId> = all.iter().filter(|(_, cut_off)| *cut_off).map(|(id, _)| *id).collect();
            for id in &gone {
                book.members.remove(id);
                self.shared.mark(&mut book, *id);
            }
            match (all.len(), gone.len()) {
                (0, _) => return Forgot::Nobody,
                (_, 0) => return Forgot::Connected,
                (_, gone) => (Forgot::Members(gone as u64), self.shared.admission(&book)),
            }
        };
        admission.await;
        forgot
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

fn remembered(stored: StoredMember, place: Place) -> (NodeId, Entry) {
    let policy = PolicyInForce { max_staleness: stored.max_staleness, when_stale: stored.when_stale };
    let role = if stored.relay { Role::Relay } else { Role::Leaf };
    let id = NodeId(stored.id);
    (
        id,
        Entry {
            member: RosterMember { id, name: stored.name, role, policy, subtree: None, place },
            stored: Some(policy),
        },
    )
}

impl Shared {
    fn mark(&self, book: &mut Book, id: NodeId) {
        if !book.is_kept || book.dirty.len() >= DIRTY_MAX {
            return;
        }
        book.dirty.insert(id);
        book.marks += 1;
        self.changed.notify_one();
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

    /// Takes off those that cannot accept anything any more.
    fn expire(&self, book: &mut Book) {
        let (now, skew) = (self.clock.boot().0, self.set.policy().clock_skew_max);
        let ran_out = |member: &RosterMember| match member.place {
            Place::CutOff { since, .. } if member.policy.when_stale == WhenStale::Deny => {
                now.saturating_sub(since) > member.policy.max_staleness.saturating_add(skew)
            }
            _ => false,
        };
        let gone: Vec<NodeId> =
            book.members.values().filter(|entry| ran_out(&entry.member)).map(|entry| entry.member.id).collect();
        for id in gone {
            book.members.remove(&id);
            self.mark(book, id);
        }
    }

    fn run(&self, mut table: MemberTable) {
        loop {
            let (ids, changes, marks) = {
                let mut book = self.book.lock();
                while book.dirty.is_empty() && !book.stopping {
                    self.changed.wait(&mut book);
                }
                if book.dirty.is_empty() {
                    return;
                }
                let ids = std::mem::take(&mut book.dirty);
                let changes: Vec<MemberChange> = ids.iter().map(|id| book.change(*id)).collect();
                (ids, changes, book.marks)
            };
            let result = table.write(&changes);
            let mut book = self.book.lock();
            match result {
                Ok(()) => {
                    book.stored(&changes);
                    if book.trouble.take().is_some() {
                        tracing::info!("members are remembered again");
                    }
                    self.written.send_replace(marks);
                }
                Err(error) => {
                    if book.trouble.replace(error.to_string()).is_none() {
                        tracing::error!(%error, "members are not remembered; waiting for propagation is never complete");
                    }
                    book.dirty.extend(ids);
                    self.written.send_replace(marks);
                    if book.stopping {
                        return;
                    }
                    self.changed.wait_for(&mut book, RETRY_INTERVAL);
                }
            }
        }
    }
}

impl Book {
    fn change(&self, id: NodeId) -> MemberChange {
        match self.members.get(&id) {
            Some(Entry { member, .. }) => MemberChange::Put(StoredMember {
                id: id.0,
                name: member.name.clone(),
                relay: member.role == Role::Relay,
                max_staleness: member.policy.max_staleness,
                when_stale: member.policy.when_stale,
            }),
            None => MemberChange::Remove(id.0),
        }
    }

    fn stored(&mut self, changes: &[MemberChange]) {
        for change in changes {
            if let MemberChange::Put(stored) = change
                && let Some(entry) = self.members.get_mut(&NodeId(stored.id))
            {
                let policy = PolicyInForce { max_staleness: stored.max_staleness, when_stale: stored.when_stale };
                entry.stored = Some(policy);
            }
        }
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
