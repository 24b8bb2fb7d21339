//! What relays tell of those below them: which of two places counts, and what is old news.

use std::collections::{BTreeMap, BTreeSet};

use super::{Below, Fleet, Member, Place};
use crate::replication::frames::{About, NodeId, PolicyInForce, ROSTER_MAX, Roster, RosterEntry};
use crate::replication::moment::Moment;
use crate::revocation::Revision;

/// Why a roster is refused; parts of it may have been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RosterFault {
    /// The first part of a connection must begin.
    #[error("a roster that does not begin")]
    NotBegun,
    /// More than [`ROSTER_MAX`].
    #[error("a roster of more than 10000 members")]
    TooMany,
}

/// The most whom relays told of and who are told apart although there is no room for them; beyond, each is counted whenever
/// a change of it is told.
pub(super) const REFUSED_MAX: usize = 2 * ROSTER_MAX;

/// What a relay told, and on which terms.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// The memory it told from; `None` before it told anything.
    memory: Option<u64>,
    /// Everything up to this change was told. An entry that changed later is news.
    changes: u64,
    /// Which report of everybody this is.
    report: u64,
    stage: Stage,
    /// The epoch that positions are of.
    epoch: Option<[u8; 16]>,
    /// How many it has no room to name.
    unlisted: u64,
    /// Told of on this connection, and not remembered here for lack of room; of all relays together at most
    /// [`REFUSED_MAX`].
    refused: BTreeSet<NodeId>,
    /// So many more: of an earlier connection, or beyond that. Until the next report.
    refused_more: u64,
    /// They came here, and it has not told that they are gone from there: the stays that are over. Where somebody went who
    /// went from relay to relay is not certain: what those told may have been long on its way.
    ended: BTreeMap<NodeId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was told on this connection.
    Closed,
    /// A report of everybody is under way.
    Reporting,
    /// Changes only.
    Open,
}

impl Heard {
    fn new() -> Self {
        Self {
            memory: None,
            changes: 0,
            report: 0,
            stage: Stage::Closed,
            epoch: None,
            unlisted: 0,
            refused: BTreeSet::new(),
            refused_more: 0,
            ended: BTreeMap::new(),
        }
    }

    pub(super) fn kept(memory: u64, changes: u64) -> Self {
        Self { memory: Some(memory), changes, ..Self::new() }
    }

    pub(super) fn to_keep(&self) -> Option<(u64, u64)> {
        self.memory.map(|memory| (memory, self.changes))
    }

    /// Its connection ended. How many of those refused need not be told apart any more.
    pub(super) fn close(&mut self) -> usize {
        self.stage = Stage::Closed;
        let refused = std::mem::take(&mut self.refused).len();
        self.refused_more = self.refused_more.saturating_add(refused as u64);
        refused
    }

    /// All was told on this connection, of this epoch, up to this change.
    pub(super) fn is_complete(&self, epoch: Option<[u8; 16]>, changes: u64) -> bool {
        self.stage == Stage::Open && self.epoch == epoch && self.changes == changes
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn unlisted(&self) -> u64 {
        self.unlisted.saturating_add(self.refused.len() as u64).saturating_add(self.refused_more)
    }

    /// What it tells of this stay is no news any more.
    pub(super) fn end_stay(&mut self, id: NodeId, stay: u64) {
        if self.ended.len() < ROSTER_MAX {
            self.ended.insert(id, stay);
        }
    }

    /// Whether this is about a stay that is over. When that was told, or another stay, there is nothing more to expect.
    fn is_over(&mut self, entry: &RosterEntry) -> bool {
        let is_over = self.ended.get(&entry.id) == Some(&entry.joined);
        if !is_over || !entry.connected {
            self.ended.remove(&entry.id);
        }
        is_over
    }
}

impl Member {
    /// What matters to others of where and how it is.
    fn standing(&self) -> (Place, Option<NodeId>, PolicyInForce, bool) {
        (self.place(), self.parent(), self.policy(), self.is_ready())
    }
}

impl Fleet {
    /// A relay in a seat tells of those below it.
    ///
    /// # Errors
    /// When it breaks the rules: it must not be listened to any more.
    pub fn handle_roster(&mut self, now: Moment, seat: u64, relay: NodeId, roster: &Roster) -> Result<(), RosterFault> {
        let Some(mut heard) = self.heard_of(seat, relay) else { return Ok(()) };
        self.refused -= heard.refused.len();
        if roster.begins {
            self.begin_report(now, relay, roster.memory, &mut heard);
        } else if heard.stage == Stage::Closed || heard.memory != Some(roster.memory) {
            self.put_heard(relay, heard);
            return Err(RosterFault::NotBegun);
        }
        if heard.unlisted != roster.unlisted {
            heard.unlisted = roster.unlisted;
            self.changes += 1;
        }
        heard.epoch = roster.epoch;
        for entry in &roster.entries {
            self.take_entry(now, relay, &mut heard, entry);
        }
        for id in &roster.gone {
            heard.refused.remove(id);
            heard.ended.remove(id);
            self.take_gone(now, relay, *id);
        }
        if let Some(changes) = roster.complete {
            self.complete(now, relay, &mut heard, changes);
        }
        let told = self.below.get(&relay).map_or(0, BTreeSet::len) + heard.refused.len();
        // Until a report is complete, those of the one before are among them.
        let limit = if heard.stage == Stage::Reporting { 2 * ROSTER_MAX } else { ROSTER_MAX };
        self.put_heard(relay, heard);
        if told > limit { Err(RosterFault::TooMany) } else { Ok(()) }
    }

    fn heard_of(&mut self, seat: u64, relay: NodeId) -> Option<Heard> {
        let member = self.members.get_mut(&relay).filter(|member| member.seat == Some(seat))?;
        Some(member.heard.take().unwrap_or_else(Heard::new))
    }

    fn put_heard(&mut self, relay: NodeId, heard: Heard) {
        self.refused += heard.refused.len();
        if let Some(member) = self.members.get_mut(&relay) {
            member.heard = Some(heard);
        }
    }

    fn begin_report(&mut self, now: Moment, relay: NodeId, memory: u64, heard: &mut Heard) {
        if heard.memory != Some(memory) {
            // It remembers nobody of before: they are cut off until somebody tells of them.
            self.cut_below(now, relay);
            self.orphan_below(relay);
            self.lost = self.lost.saturating_add(heard.unlisted());
            *heard = Heard { memory: Some(memory), report: heard.report, ..Heard::new() };
        }
        heard.report += 1;
        heard.stage = Stage::Reporting;
        heard.refused.clear();
        heard.refused_more = 0;
    }

    fn take_entry(&mut self, now: Moment, relay: NodeId, heard: &mut Heard, entry: &RosterEntry) {
        if entry.id == relay || self.node == Some(entry.id) {
            return;
        }
        let is_over = heard.is_over(entry);
        // Since the relay last told everything: it counts against what others told before.
        let (has_come, is_news) = (entry.joined > heard.changes, entry.change > heard.changes);
        let member = self.members.get(&entry.id);
        let is_here = member.and_then(|member| member.below).is_some_and(|below| below.via == Some(relay));
        let others_have_it = member.is_some_and(|member| !member.beside.is_empty());
        let is_beside = member.is_some_and(|member| member.beside.contains_key(&relay));
        let is_seated = member.is_some_and(|member| member.seat.is_some());
        let is_connected = member.is_some_and(Member::is_connected);
        let is_taken = match (entry.connected, is_here) {
            // It said goodbye since then.
            _ if is_over && member.is_none() => false,
            (connected, false) if is_beside && !(connected && has_come) => {
                return self.hear_beside(relay, heard, entry);
            }
            // Its word ends, another's stays.
            (false, true) if !is_seated && others_have_it => {
                self.fall_back(now, entry.id);
                return;
            }
            (false, true) if is_seated => return self.leave_below(entry.id),
            (_, true) => true,
            // It has come there since, or nobody else has it.
            (true, false) => has_come || !is_connected,
            // Cut off from another relay, and then from this one; or taken off here since that was told.
            (false, false) => is_news && !is_connected,
        };
        if !is_taken {
            return;
        }
        if member.is_none() && self.members.len() >= self.members_max {
            if self.refused + heard.refused.len() < REFUSED_MAX {
                heard.refused.insert(entry.id);
            } else if is_news && !heard.refused.contains(&entry.id) {
                heard.refused_more = heard.refused_more.saturating_add(1);
            }
            return;
        }
        if entry.connected && !is_beside && self.is_contested_too_often(relay, entry.id) {
            heard.refused_more = heard.refused_more.saturating_add(u64::from(is_news));
            return;
        }
        self.end_beside(relay, entry.id);
        heard.refused.remove(&entry.id);
        let stay = entry.joined;
        let (via, parent, present, report) = (Some(relay), entry.parent, entry.connected, heard.report);
        self.settle(now, heard, entry, Below { via, parent, present, report, stay });
    }

    /// A relay whose word is not the newest any more says that it still has the member, or how that went.
    fn hear_beside(&mut self, relay: NodeId, heard: &Heard, entry: &RosterEntry) {
        if entry.connected {
            let about = self.judged(heard, entry);
            self.update_beside(relay, heard.report, entry, &about);
        } else {
            self.end_beside(relay, entry.id);
        }
    }

    /// The relay's word is taken: there it is, or there it was.
    fn settle(&mut self, now: Moment, heard: &Heard, entry: &RosterEntry, place: Below) {
        let (id, is_news) = (entry.id, entry.change > heard.changes);
        let about = self.judged(heard, entry);
        let before = self.members.get(&id).map(Member::standing);
        let lived = self.members.get(&id).and_then(|member| member.below);
        let is_same_stay = lived.is_some_and(|below| below.via == place.via && below.stay == place.stay);
        if lived.and_then(|below| below.via) != place.via {
            let former = lived.and_then(|below| below.via);
            let stays = self.set_beside(id);
            self.leave_below(id);
            if let Some(former) = former.filter(|_| stays) {
                self.below.entry(former).or_default().insert(id);
            }
            if let Some(via) = place.via {
                self.below.entry(via).or_default().insert(id);
            }
        }
        let member = self.members.entry(id).or_insert_with(|| Member::new(about.clone()));
        member.below = Some(place);
        if member.seat.is_some() {
            // What is seen here counts; but it may do there what it does not do here (T4).
            member.about.policy = member.about.policy.looser(about.policy);
        } else {
            let was_cut_off = member.cut_off.filter(|_| !is_news);
            let since = about.since;
            member.about = about;
            if place.present {
                member.cut_off = None;
            } else {
                member.begin_cut(now);
                // Of one that was there until now, or meanwhile, the time begins to run now.
                member.cut_off = was_cut_off.or(member.cut_off);
                member.about.since = since;
            }
        }
        if is_news || before != Some(member.standing()) {
            self.touch(id);
        } else {
            self.moved.insert(id);
        }
        if !is_same_stay {
            self.note_joined(id);
        }
    }

    /// What is known of a member by a relay's word.
    fn judged(&self, heard: &Heard, entry: &RosterEntry) -> About {
        let mut about = entry.about.clone();
        if heard.epoch != self.epoch {
            (about.acked, about.ready) = (Revision(0), false);
        }
        let known: Option<PolicyInForce> = self.members.get(&entry.id).map(|member| member.about.policy);
        // Until it says, it may be doing what it did before (T4).
        if let (false, Revision(0), Some(known)) = (entry.about.ready, entry.about.acked, known) {
            about.policy = about.policy.looser(known);
        }
        about.policy = self.doing(about.acked, about.policy);
        about
    }

    fn take_gone(&mut self, now: Moment, relay: NodeId, id: NodeId) {
        if self.end_beside(relay, id) {
            return;
        }
        let Some(member) = self.members.get(&id) else { return };
        if member.below.is_none_or(|below| below.via != Some(relay)) {
            return;
        }
        if member.seat.is_some() {
            self.leave_below(id);
        } else if !self.fall_back(now, id) {
            self.remove(now, id);
        }
    }

    /// All was said: who is in no part of a report of everybody has gone in order.
    fn complete(&mut self, now: Moment, relay: NodeId, heard: &mut Heard, changes: u64) {
        if heard.stage == Stage::Reporting {
            let is_absent = |id: &&NodeId| {
                let member = self.members.get(id);
                let beside = member.and_then(|member| member.beside.get(&relay)).map(|word| word.below);
                let below = beside.or_else(|| member.and_then(|member| member.below));
                below.is_some_and(|below| below.report != heard.report)
            };
            let absent: Vec<NodeId> =
                self.below.get(&relay).iter().copied().flatten().filter(is_absent).copied().collect();
            absent.into_iter().for_each(|id| self.take_gone(now, relay, id));
            heard.stage = Stage::Open;
        }
        if heard.changes != changes {
            heard.changes = changes;
            // To be kept: with what it told.
            self.changed.insert(relay);
        }
    }
}
