//! What of the fleet is in the table, and the thread that writes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Shared, UNKNOWN};
use crate::journal::{MEMBERS_MAX, MemberChange, MemberTable, StoredMember};
use crate::replication::fleet::{Fleet, Kept};
use crate::replication::frames::{NodeId, PolicyInForce, Role};
use crate::revocation::WhenStale;

/// Between two attempts to write after one that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The most changes that wait for a disk that fails. Beyond, members are compared with the table once it can be written; one
/// that said goodbye may be cut off after the next start, which only makes an answer more cautious.
const DIRTY_MAX: usize = 2 * MEMBERS_MAX;

pub(super) struct Book {
    pub(super) fleet: Fleet,
    /// What the table holds.
    pub(super) stored: BTreeMap<NodeId, StoredMember>,
    /// To be written; at most [`DIRTY_MAX`].
    dirty: BTreeSet<NodeId>,
    /// Being written: what the table holds of them is not known.
    writing: BTreeSet<NodeId>,
    /// More than that had to be written.
    missed: bool,
    pub(super) marks: u64,
    pub(super) trouble: Option<String>,
    /// There is a table to write.
    pub(super) is_kept: bool,
    pub(super) stopping: bool,
}

/// All who followed before there was a table. What they do when stale is not known.
pub(super) fn unknown(max_staleness: Duration) -> StoredMember {
    StoredMember {
        id: [0; 16],
        name: UNKNOWN.to_owned(),
        relay: false,
        max_staleness,
        when_stale: WhenStale::ServeStale,
        owner: None,
        parent: None,
        via: None,
        heard: None,
    }
}

impl Book {
    pub(super) fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            stored: BTreeMap::new(),
            dirty: BTreeSet::new(),
            writing: BTreeSet::new(),
            missed: false,
            marks: 0,
            trouble: None,
            is_kept: false,
            stopping: false,
        }
    }

    /// Notes what changed and is to be kept. Whether there is something.
    pub(super) fn mark(&mut self) -> bool {
        self.fleet.take_moved();
        let changed = self.fleet.take_changed();
        if !self.is_kept {
            return false;
        }
        let before = self.marks;
        for id in changed {
            let is_settled = !self.dirty.contains(&id) && !self.writing.contains(&id);
            if is_settled && self.wanted(id).as_ref() == self.stored.get(&id) {
                continue;
            }
            if self.dirty.len() < DIRTY_MAX {
                self.dirty.insert(id);
            } else {
                self.missed = true;
            }
            self.marks += 1;
        }
        self.marks > before
    }

    /// The table holds it, under the policy that it is held to have, and nothing is under way that takes it off.
    pub(super) fn is_stored(&self, id: NodeId) -> bool {
        let policy = |member: StoredMember| (member.max_staleness, member.when_stale);
        !self.writing.contains(&id) && self.wanted(id).map(policy) == self.stored.get(&id).cloned().map(policy)
    }

    /// How many members are not in the table.
    pub(super) fn waiting(&self) -> usize {
        self.fleet.members().filter(|(id, _)| !self.stored.contains_key(id)).count()
    }

    fn wanted(&self, id: NodeId) -> Option<StoredMember> {
        self.fleet.kept(id).map(stored)
    }

    fn change(&self, id: NodeId) -> MemberChange {
        self.wanted(id).map_or(MemberChange::Remove(id.0), MemberChange::Put)
    }

    /// Everything that is to be written, from now on under way.
    fn begin_writing(&mut self) -> Vec<MemberChange> {
        self.writing = std::mem::take(&mut self.dirty);
        self.writing.iter().map(|id| self.change(*id)).collect()
    }

    fn written(&mut self, changes: Vec<MemberChange>) {
        for change in changes {
            match change {
                MemberChange::Put(member) => drop(self.stored.insert(NodeId(member.id), member)),
                MemberChange::Remove(id) => drop(self.stored.remove(&NodeId(id))),
            }
        }
        if std::mem::take(&mut self.missed) {
            let ids: BTreeSet<NodeId> =
                self.fleet.members().map(|(id, _)| id).chain(self.stored.keys().copied()).collect();
            let differs = |id: &NodeId| self.wanted(*id).as_ref() != self.stored.get(id);
            let missed: Vec<NodeId> = ids.into_iter().filter(differs).take(DIRTY_MAX).collect();
            self.dirty.extend(missed);
        }
    }
}

impl Shared {
    pub(super) fn run(&self, mut table: MemberTable) {
        loop {
            let (changes, marks) = {
                let mut book = self.book.lock();
                while book.dirty.is_empty() && !book.stopping {
                    self.changed.wait(&mut book);
                }
                if book.dirty.is_empty() {
                    return;
                }
                (book.begin_writing(), book.marks)
            };
            let result = table.write(&changes);
            let mut book = self.book.lock();
            let mut ids = std::mem::take(&mut book.writing);
            match result {
                Ok(()) => {
                    book.written(changes);
                    if book.trouble.take().is_some() {
                        tracing::info!("members are remembered again");
                    }
                    self.written.send_replace(marks);
                }
                Err(error) => {
                    if book.trouble.replace(error.to_string()).is_none() {
                        tracing::error!(%error, "members are not remembered; waiting for propagation is never complete");
                    }
                    book.dirty.append(&mut ids);
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

pub(super) fn kept(stored: &StoredMember) -> Kept {
    Kept {
        id: NodeId(stored.id),
        name: stored.name.clone(),
        role: if stored.relay { Role::Relay } else { Role::Leaf },
        policy: PolicyInForce { max_staleness: stored.max_staleness, when_stale: stored.when_stale },
        owner: stored.owner.as_deref().map(Into::into),
        parent: stored.parent.map(NodeId),
        via: stored.via.map(NodeId),
        heard: stored.heard,
    }
}

fn stored(kept: Kept) -> StoredMember {
    StoredMember {
        id: kept.id.0,
        name: kept.name,
        relay: kept.role == Role::Relay,
        max_staleness: kept.policy.max_staleness,
        when_stale: kept.policy.when_stale,
        owner: kept.owner.map(|owner| owner.as_ref().to_owned()),
        parent: kept.parent.map(|id| id.0),
        via: kept.via.map(|id| id.0),
        heard: kept.heard,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Moment;
    use crate::revocation::UnixMillis;

    #[test]
    fn one_that_comes_back_while_its_goodbye_is_written_is_not_stored() {
        let (now, id) = (Moment { boot: Duration::ZERO, wall: UnixMillis(1) }, NodeId([8; 16]));
        let member = StoredMember { id: id.0, ..unknown(Duration::from_secs(60)) };
        let mut book = Book::new(Fleet::new(None, 10));
        book.is_kept = true;
        book.fleet.restore(now, [kept(&member)]);
        book.stored.insert(id, member.clone());
        assert!(book.is_stored(id));
        book.fleet.forget(now, Some(id), "");
        book.mark();
        let changes = book.begin_writing();
        assert_eq!(changes, [MemberChange::Remove(id.0)]);
        book.fleet.restore(now, [kept(&member)]);
        assert!(!book.is_stored(id), "the table is about to let go of it");
    }
}
