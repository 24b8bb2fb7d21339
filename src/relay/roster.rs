//! Who is below a relay, kept over its hubs and told to the next one above.
//!
//! ```text
//! seats ──▶ Fleet ── changed ──▶ pending ── parts ──▶ upstream
//!             └── moved, every 10 s ──▲
//! ```
//!
//! In memory only: what a relay forgets with its process, the authority remembers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::replica::TellRoster;
use crate::replication::Moment;
use crate::replication::fleet::{Fleet, RosterFault};
use crate::replication::frames::{
    Ack, Hello, NodeId, PART_BYTES, PART_ITEMS_MAX, PolicyInForce, ROSTER_MAX, Roster, Subtree,
};
use crate::replication::source::{Guest, Members, NotItsOwner};
use crate::replication::subscription::Mode;
use crate::revocation::ports::Pending;
use crate::revocation::{Policy, WhenStale};

/// How often positions are told that nobody waits for.
const REFRESH_INTERVAL: Duration = Duration::from_secs(10);
/// What one that is gone takes in a part, in bytes.
const GONE_BYTES: usize = 20;
/// The most that wait to be told; beyond, everything is told again, which says as much.
const PENDING_MAX: usize = 4 * ROSTER_MAX;

/// With so many cut off, those that the next one above has known of for a while are let go of: it remembers them. A quarter
/// of what there is room for.
const CUT_OFF_MAX: u64 = ROSTER_MAX as u64 / 4;

/// Tells everything on each new connection, and then what changed.
pub(super) struct Below {
    node: NodeId,
    clock: Clock,
    book: Mutex<Book>,
}

struct Book {
    fleet: Fleet,
    /// Names this memory: another one, whenever something is forgotten that was not told to be gone.
    memory: u64,
    epoch: Option<[u8; 16]>,
    logged: Policy,
    /// How many hubs there were.
    hubs: u64,
    /// To be told, at most [`PENDING_MAX`] and those of one change.
    pending: BTreeSet<NodeId>,
    /// Moved since positions were last told.
    moved: BTreeSet<NodeId>,
    moved_told_at: Duration,
    begins: bool,
    /// Told up to this change.
    told: u64,
    /// The same when positions were last told, if that was on this connection.
    told_before: Option<u64>,
}

impl Below {
    pub(super) fn new(node: NodeId, memory: u64, clock: Clock) -> Arc<Self> {
        let book = Book {
            fleet: Fleet::new(Some(node), ROSTER_MAX),
            memory,
            epoch: None,
            logged: Policy::default(),
            hubs: 0,
            pending: BTreeSet::new(),
            moved: BTreeSet::new(),
            moved_told_at: clock.boot().0,
            begins: true,
            told: 0,
            told_before: None,
        };
        Arc::new(Self { node, clock, book: Mutex::new(book) })
    }

    /// Where the seats of a new hub are told. What it serves is of this epoch.
    pub(super) fn seats(self: &Arc<Self>, epoch: [u8; 16]) -> Arc<dyn Members> {
        self.change(|book, _| {
            book.hubs += 1;
            book.epoch = Some(epoch);
            book.fleet.set_epoch(epoch);
            Arc::new(Seats { below: Arc::clone(self), hub: book.hubs })
        })
    }

    /// The policy in the log.
    pub(super) fn set_logged(&self, policy: &Policy) {
        self.book.lock().logged = *policy;
    }

    /// Takes off those that have run out, and sums up the others.
    pub(super) fn subtree(&self) -> Subtree {
        self.change(|book, now| {
            book.fleet.expire(now, book.logged.clock_skew_max);
            book.fleet.subtree()
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book, Moment) -> T) -> T {
        let now = Moment { boot: self.clock.boot().0, wall: self.clock.wall() };
        let mut book = self.book.lock();
        let answer = change(&mut book, now);
        let (changed, moved) = (book.fleet.take_changed(), book.fleet.take_moved());
        book.pending.extend(changed);
        book.moved.extend(moved);
        if book.pending.len() > PENDING_MAX {
            book.begin();
        }
        if now.since(book.moved_told_at) >= REFRESH_INTERVAL {
            book.moved_told_at = now.boot;
            book.refresh(now);
        }
        answer
    }
}

impl Book {
    fn refresh(&mut self, now: Moment) {
        let told_before = self.told_before.replace(self.told);
        let is_told = !self.is_pending();
        if let Some(told_before) = told_before.filter(|_| is_told && self.fleet.cut_off() > CUT_OFF_MAX) {
            let count = self.fleet.let_go(now, told_before);
            // Told with another memory, that they are missing does not say that they are gone.
            self.fleet.take_changed();
            self.memory = self.memory.wrapping_add(1);
            self.begin();
            tracing::info!(count, "subscribers that are cut off are left to the authority to remember");
        }
        let moved = std::mem::take(&mut self.moved);
        self.pending.extend(moved);
    }

    fn begin(&mut self) {
        (self.told, self.told_before) = (0, None);
        self.begins = true;
        self.pending = self.fleet.members().map(|(id, _)| id).collect();
        self.moved.clear();
    }

    fn is_pending(&self) -> bool {
        self.begins || !self.pending.is_empty() || self.told != self.fleet.changes()
    }

    fn next_part(&mut self, here: NodeId) -> Option<Roster> {
        if !self.is_pending() {
            return None;
        }
        let begins = std::mem::take(&mut self.begins);
        let (mut entries, mut gone, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < PART_BYTES && entries.len() + gone.len() < PART_ITEMS_MAX {
            let Some(id) = self.pending.pop_first() else { break };
            match self.fleet.entry(id, here) {
                Some(entry) => {
                    bytes += entry.bytes_max();
                    entries.push(entry);
                }
                None => {
                    bytes += GONE_BYTES;
                    gone.push(id);
                }
            }
        }
        let complete = self.pending.is_empty().then(|| self.fleet.changes());
        self.told = complete.unwrap_or(self.told);
        let unlisted = self.fleet.unlisted().saturating_add(self.fleet.unlisted_below());
        let memory = self.memory;
        Some(Roster { memory, begins, complete, epoch: self.epoch, entries, gone, unlisted })
    }
}

impl TellRoster for Below {
    fn begin(&self) {
        self.change(|book, _| book.begin());
    }

    fn is_pending(&self) -> bool {
        self.change(|book, _| book.is_pending())
    }

    fn next_part(&self) -> Option<Roster> {
        self.change(|book, _| book.next_part(self.node))
    }
}

/// The seats of one hub: their numbers begin anew with each.
struct Seats {
    below: Arc<Below>,
    hub: u64,
}

impl Seats {
    /// Never the same in two hubs; no hub seats so many.
    fn number(&self, seat: u64) -> u64 {
        self.hub << 40 | seat
    }
}

impl Members for Seats {
    fn handle_hello(
        &self,
        seat: u64,
        guest: &Guest,
        hello: &Hello,
    ) -> Result<Option<Pending<'static, ()>>, NotItsOwner> {
        let listed = self.below.change(|book, now| {
            // What it did before, only the authority may know: until its first ack nothing is sure to bind it.
            let unsaid = PolicyInForce { when_stale: WhenStale::ServeStale, ..PolicyInForce::of(&book.logged) };
            book.fleet.make_room(now, book.logged.clock_skew_max);
            book.fleet.handle_hello(now, self.number(seat), guest, hello, unsaid)
        })?;
        if !listed {
            tracing::error!(limit = ROSTER_MAX, "a subscriber cannot be named to the authority: too many");
        }
        Ok(None)
    }

    fn handle_ack(&self, seat: u64, member: NodeId, ack: &Ack) {
        // One that is being sent away may still acknowledge what an earlier hub served: another epoch's, perhaps.
        self.below.change(|book, _| {
            if self.hub == book.hubs {
                book.fleet.handle_ack(self.number(seat), member, ack);
            }
        });
    }

    fn handle_roster(&self, seat: u64, member: NodeId, roster: &Roster) -> Result<(), RosterFault> {
        self.below.change(|book, now| {
            book.fleet.make_room(now, book.logged.clock_skew_max);
            book.fleet.handle_roster(now, self.number(seat), member, roster)
        })
    }

    fn handle_mode(&self, seat: u64, member: NodeId, mode: Mode) {
        self.below.change(|book, _| book.fleet.handle_mode(self.number(seat), member, mode));
    }

    fn handle_leave(&self, seat: u64, member: NodeId, goodbye: bool) {
        self.below.change(|book, now| book.fleet.handle_leave(now, self.number(seat), member, goodbye));
    }
}

#[cfg(test)]
mod tests;
