//! Who ought to be following, here and below relays, and where each of them was last seen.
//!
//! ```text
//! Hello, ack, leave (of a seat) ──▶ Fleet ──▶ who changed: to be stored, or told to the next one above
//! Roster (of a relay in a seat) ──▶   └─────▶ how far each has come, who is cut off
//! ```
//!
//! Plain state without I/O: the authority makes it durable, a relay passes it on.
//!
//! # Invariants
//! - T1. A member is in one place: in a seat here; else below the relay that told of it last; else cut off. While another
//!   relay in a seat has it, it counts as the one furthest behind and as the loosest of what they say, and a relay that says
//!   it has left ends its own word only.
//! - T2. A member goes by a goodbye, here or as its relay says; by [`Fleet::forget`]; or by running out: it denies when stale,
//!   and has been cut off for its `max_staleness` and `clock_skew_max`. One that serves stale never runs out.
//! - T3. What a relay acknowledges for those below it counts only for those that its ack counted: no change of them may
//!   be known that the ack does not know.
//! - T4. A policy is never held to be stricter than what the member may be doing.
//! - T5. Of several in seats here with one id, all count as the one furthest behind and as the loosest of them, and a goodbye
//!   of the last one to come leaves those before.

mod count;
mod kept;
mod places;
mod roster;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use kept::Kept;
pub use roster::RosterFault;

use super::frames::{
    ADDRESS_BYTES_MAX, About, Ack, Hello, NodeId, PATH_MAX, PolicyInForce, Role, RosterEntry, Subtree,
};
use super::moment::Moment;
use super::source::{Guest, NotItsOwner};
use super::subscription::Mode;
use crate::revocation::{Revision, UnixMillis, WhenStale};
use roster::Heard;
use words::Word;

/// Members, each in its place.
#[derive(Debug)]
pub struct Fleet {
    /// This process, if it is a relay: never a member of its own fleet.
    node: Option<NodeId>,
    /// The epoch that positions are of.
    epoch: Option<[u8; 16]>,
    members: BTreeMap<NodeId, Member>,
    /// Whom the relays in seats here told of, by relay.
    below: BTreeMap<NodeId, BTreeSet<NodeId>>,
    members_max: usize,
    /// How many changes of membership there were.
    changes: u64,
    /// Changed, added or removed since they were last taken; bounded by whoever takes them.
    changed: BTreeSet<NodeId>,
    /// The same for positions and modes alone.
    moved: BTreeSet<NodeId>,
    /// Seats of those that are served and not listed, because there were too many; bounded by the seats.
    unlisted: BTreeSet<u64>,
    /// How many of those were cut off: nobody knows what they serve now, and nothing but a restart forgets it.
    lost: u64,
    /// How many whom relays told of are told apart although there is no room for them.
    refused: usize,
    /// The logged policy, as last told.
    logged: Option<PolicyInForce>,
    /// It became looser at this revision at the latest: whoever has not acknowledged that may be doing this.
    loosened: Option<(Revision, PolicyInForce)>,
}

/// Somebody who ought to be following.
#[derive(Clone, Debug)]
pub struct Member {
    about: About,
    /// The principal whose process it is; `None`: nobody was asked, when it was last here.
    owner: Option<Arc<str>>,
    seat: Option<u64>,
    /// Seats in which somebody with this id sat before, and which are not left yet; bounded by the seats.
    earlier: BTreeMap<u64, Earlier>,
    below: Option<Below>,
    /// What other relays in seats here say that have it too, by relay; at most [`words::BESIDE_MAX`].
    beside: BTreeMap<NodeId, Word>,
    /// On the boot-time clock, since when it has no place; set while that is so.
    cut_off: Option<Duration>,
    /// The number of its last change.
    change: u64,
    /// The number of the change with which it came to its last place.
    joined: u64,
    /// Of a relay in a seat here: its last ack's.
    subtree: Option<Subtree>,
    /// Of a relay that was in a seat here: what it told.
    heard: Option<Heard>,
}

/// What was last heard in a seat that another with the same id took the place of. Whether it is the same process, nobody
/// knows.
#[derive(Clone, Copy, Debug)]
struct Earlier {
    acked: Revision,
    policy: PolicyInForce,
}

/// A place below a relay.
#[derive(Clone, Copy, Debug)]
struct Below {
    /// The relay in a seat here that told of it; `None` when that one is gone for good.
    via: Option<NodeId>,
    /// The relay it is connected to, or was.
    parent: NodeId,
    /// It is there, as far as is known.
    present: bool,
    /// In which of the relay's reports it was told of last.
    report: u64,
    /// Names its stay there: the relay's number of its coming.
    stay: u64,
}

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this seat.
    Seat(u64),
    /// Below the relay that sits here.
    Below,
    /// Gone without a goodbye, or not back since the start.
    CutOff,
}

/// What came of forgetting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgot {
    /// So many, all of them cut off.
    Members(u64),
    /// Whoever was named is connected.
    Connected,
    /// Nobody is named so.
    Nobody,
}

impl Member {
    /// What is known of it.
    #[must_use]
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        match (self.seat, self.below) {
            (Some(seat), _) => Place::Seat(seat),
            (None, Some(Below { present: true, .. })) => Place::Below,
            (None, _) => Place::CutOff,
        }
    }

    /// The relay it is connected to, or was last; `None` when that is this process.
    #[must_use]
    pub fn parent(&self) -> Option<NodeId> {
        self.below.filter(|_| self.seat.is_none()).map(|below| below.parent)
    }

    fn is_present_below(&self) -> bool {
        self.below.is_some_and(|below| below.present)
    }

    fn is_connected(&self) -> bool {
        self.place() != Place::CutOff
    }

    fn begin_cut(&mut self, now: Moment) {
        self.cut_off = Some(now.boot);
        self.about.since = now.wall;
        (self.about.mode, self.about.ready) = (None, false);
    }
}

impl Fleet {
    /// Nobody yet, and at most `members_max`. `node` is this process, if it is a relay.
    #[must_use]
    pub fn new(node: Option<NodeId>, members_max: usize) -> Self {
        Self {
            node,
            epoch: None,
            members: BTreeMap::new(),
            below: BTreeMap::new(),
            members_max,
            changes: 0,
            changed: BTreeSet::new(),
            moved: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            lost: 0,
            refused: 0,
            logged: None,
            loosened: None,
        }
    }

    /// Positions are of this epoch from now on: those of another say nothing any more.
    pub fn set_epoch(&mut self, epoch: [u8; 16]) {
        if self.epoch.replace(epoch) == Some(epoch) {
            return;
        }
        for member in self.members.values_mut() {
            (member.about.acked, member.about.ready, member.subtree) = (Revision(0), false, None);
            member.beside.values_mut().for_each(|word| (word.acked, word.ready) = (Revision(0), false));
        }
        self.touch_all();
    }

    /// The logged policy at a revision, before anybody can have applied that. When it is looser than before, so is
    /// everybody's, until an ack at or beyond the revision says otherwise.
    pub fn handle_logged(&mut self, revision: Revision, policy: PolicyInForce) {
        let Some(before) = self.logged.replace(policy) else {
            // What it was before, nobody knows: whoever is not there yet may follow that.
            self.loosened = Some((revision, policy));
            return;
        };
        if before.looser(policy) == before {
            return;
        }
        let loosest = self.loosened.map_or(policy, |(_, loosened)| loosened.looser(policy));
        self.loosened = Some((revision, loosest));
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.beside.values_mut().for_each(|word| word.policy = word.policy.looser(policy));
            let looser = member.about.policy.looser(policy);
            if std::mem::replace(&mut member.about.policy, looser) != looser {
                self.touch(id);
            }
        }
    }

    /// What one may be doing that said this when it had come so far (T4).
    fn doing(&self, acked: Revision, said: PolicyInForce) -> PolicyInForce {
        self.loosened.filter(|(since, _)| acked < *since).map_or(said, |(_, loosened)| said.looser(loosened))
    }

    /// Somebody says Hello in a seat, and may do what it did before, or else `unsaid`, until its first ack. Whether it is
    /// listed. From now on its id is the principal's who came with it first, until it goes.
    ///
    /// # Errors
    /// When its id is that of another principal's process; nothing was changed.
    pub fn handle_hello(
        &mut self,
        now: Moment,
        seat: u64,
        guest: &Guest,
        hello: &Hello,
        unsaid: PolicyInForce,
    ) -> Result<bool, NotItsOwner> {
        let id = hello.subscriber;
        if self.node == Some(id) {
            return Ok(true);
        }
        let known = self.members.get(&id);
        let owner = known.and_then(|known| known.owner.clone());
        if owner.is_some() && guest.principal.is_some() && owner != guest.principal {
            return Err(NotItsOwner);
        }
        let (owner, address) = (guest.principal.clone().or(owner), &guest.address);
        if known.is_none() && self.members.len() >= self.members_max {
            self.unlisted.insert(seat);
            self.changes += 1;
            return Ok(false);
        }
        let about = About {
            name: hello.name.clone(),
            role: hello.role,
            version: hello.version.clone(),
            address: address[..address.floor_char_boundary(ADDRESS_BYTES_MAX)].to_owned(),
            since: now.wall,
            reconnect_reason: hello.reconnect_reason.clone(),
            policy: known.map_or(unsaid, |known| known.about.policy.looser(unsaid)),
            acked: Revision(0),
            ready: false,
            mode: Some(Mode::CatchingUp),
            source_time: known.map_or(UnixMillis(0), |known| known.about.source_time),
        };
        self.end_stay(id);
        // What its relay says of those below is told anew.
        if known_seat(&self.members, id).is_some() {
            self.cut_below(now, id);
        }
        let member = self.members.entry(id).or_insert_with(|| Member::new(about.clone()));
        if let Some(before) = member.seat.filter(|before| *before != seat) {
            let About { acked, policy, .. } = member.about;
            member.earlier.insert(before, Earlier { acked, policy });
        }
        (member.about, member.seat, member.cut_off, member.subtree) = (about, Some(seat), None, None);
        member.owner = owner;
        if let Some(heard) = &mut member.heard {
            self.refused -= heard.close();
        }
        self.touch(id);
        self.note_joined(id);
        Ok(true)
    }

    /// The member in a seat says what it has applied.
    pub fn handle_ack(&mut self, seat: u64, id: NodeId, ack: &Ack) {
        let said = ack.policy.map(|said| self.doing(ack.applied, said));
        let Some(member) = self.members.get_mut(&id) else { return };
        let before = (member.about.ready, member.about.policy);
        if let Some(earlier) = member.earlier.get_mut(&seat) {
            *earlier = Earlier { acked: ack.applied, policy: said.unwrap_or(earlier.policy) };
            member.about.policy = member.about.policy.looser(earlier.policy);
        } else if member.seat == Some(seat) {
            let about = &mut member.about;
            let policy = said.unwrap_or(about.policy);
            about.policy = member.earlier.values().fold(policy, |policy, earlier| policy.looser(earlier.policy));
            (about.acked, about.ready) = (ack.applied, ack.ready);
            about.source_time = ack.source_time;
            if about.role == Role::Relay {
                member.subtree.clone_from(&ack.subtree);
            }
        } else {
            return;
        }
        let changes = before != (member.about.ready, member.about.policy);
        if changes {
            self.touch(id);
        } else {
            self.moved.insert(id);
        }
    }

    /// The member in a seat is served in another way.
    pub fn handle_mode(&mut self, seat: u64, id: NodeId, mode: Mode) {
        if let Some(member) = self.members.get_mut(&id).filter(|member| member.seat == Some(seat)) {
            member.about.mode = Some(mode);
            self.moved.insert(id);
        }
    }

    /// A seat is left. Those below a relay are cut off until they are told of again: they may go on serving what they have,
    /// whatever the relay said at its end.
    pub fn handle_leave(&mut self, now: Moment, seat: u64, id: NodeId, goodbye: bool) {
        if self.unlisted.remove(&seat) {
            self.lost = self.lost.saturating_add(u64::from(!goodbye));
            self.changes += 1;
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        if member.earlier.remove(&seat).is_some() {
            self.moved.insert(id);
            return;
        }
        if member.seat != Some(seat) {
            return;
        }
        (member.seat, member.subtree) = (None, None);
        if let Some(heard) = &mut member.heard {
            self.refused -= heard.close();
        }
        match (goodbye, member.is_present_below()) {
            // Another of this id is still there, on its way out and back: that one said nothing.
            (true, _) if let Some((before, earlier)) = member.earlier.pop_last() => {
                member.seat = Some(before);
                (member.about.acked, member.about.ready) = (earlier.acked, false);
            }
            (true, _) => {
                self.end_stay(id);
                self.remove(now, id);
            }
            // It has moved on below a relay. What that told of it meanwhile was not taken.
            (false, true) => member.about.ready = false,
            (false, false) => member.begin_cut(now),
        }
        self.cut_below(now, id);
        if self.members.contains_key(&id) {
            self.touch(id);
        }
    }

    /// Takes off those that cannot accept anything any more.
    pub fn expire(&mut self, now: Moment, skew: Duration) {
        let ran_out = |member: &Member| match (member.place(), member.cut_off) {
            (Place::CutOff, Some(since)) if member.policy().when_stale == WhenStale::Deny => {
                now.since(since) > member.policy().max_staleness.saturating_add(skew)
            }
            _ => false,
        };
        let gone: Vec<NodeId> = self.members.iter().filter(|(_, member)| ran_out(member)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.remove(now, id));
    }

    /// Makes room for one more as far as that is possible: takes off those that have run out, if there is none.
    pub fn make_room(&mut self, now: Moment, skew: Duration) {
        if self.members.len() >= self.members_max {
            self.expire(now, skew);
        }
    }

    /// Lets go of those that are cut off since a change or longer: somebody else remembers them. How many.
    pub fn let_go(&mut self, now: Moment, change: u64) -> usize {
        let is_old = |member: &Member| !member.is_connected() && member.change <= change;
        let gone: Vec<NodeId> = self.members.iter().filter(|(_, member)| is_old(member)).map(|(id, _)| *id).collect();
        gone.iter().for_each(|id| self.remove(now, *id));
        gone.len()
    }

    /// Takes off the member with this id, or else all with this name (`relay/name` too), that are cut off.
    pub fn forget(&mut self, now: Moment, id: Option<NodeId>, name: &str) -> Forgot {
        let named = |(at, member): &(&NodeId, &Member)| match id {
            Some(id) => **at == id,
            None => member.about.name == name || self.name_of(**at) == name,
        };
        let all: Vec<(NodeId, bool)> =
            self.members.iter().filter(named).map(|(id, member)| (*id, member.is_connected())).collect();
        let gone: Vec<NodeId> = all.iter().filter(|(_, connected)| !connected).map(|(id, _)| *id).collect();
        for id in &gone {
            self.remove(now, *id);
        }
        match (all.len(), gone.len()) {
            (0, _) => Forgot::Nobody,
            (_, 0) => Forgot::Connected,
            (_, gone) => Forgot::Members(gone as u64),
        }
    }

    /// Everybody, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    /// The seats of those that are served and not listed.
    #[must_use]
    pub fn unlisted_seats(&self) -> &BTreeSet<u64> {
        &self.unlisted
    }

    /// How many changes of membership there were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Who was added, changed or removed since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.changed)
    }

    /// Whose position alone changed since this was last asked.
    pub fn take_moved(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.moved)
    }

    /// What is told of a member to the next one above `here`; `None` when it is none.
    #[must_use]
    pub fn entry(&self, id: NodeId, here: NodeId) -> Option<RosterEntry> {
        let member = self.members.get(&id)?;
        let parent = member.parent().unwrap_or(here);
        let acked = self.applied(member).unwrap_or(member.about.acked);
        let about = About { acked, ready: member.is_ready(), policy: member.policy(), ..member.about.clone() };
        let Member { change, joined, .. } = *member;
        Some(RosterEntry { id, parent, change, joined, connected: member.is_connected(), about })
    }

    /// Its name behind those of the relays it is below: `relay/name`.
    #[must_use]
    pub fn name_of(&self, id: NodeId) -> String {
        let mut path = own_name(&self.members, id);
        let mut at = id;
        for _ in 0..PATH_MAX {
            let parent = self.members.get(&at).and_then(Member::parent);
            let Some(parent) = parent.filter(|parent| self.members.contains_key(parent)) else { break };
            path = format!("{}/{path}", own_name(&self.members, parent));
            at = parent;
        }
        path
    }
}

impl Member {
    fn new(about: About) -> Self {
        let earlier = BTreeMap::new();
        Self {
            about,
            owner: None,
            seat: None,
            earlier,
            below: None,
            beside: BTreeMap::new(),
            cut_off: None,
            change: 0,
            joined: 0,
            subtree: None,
            heard: None,
        }
    }
}

fn known_seat(members: &BTreeMap<NodeId, Member>, id: NodeId) -> Option<u64> {
    members.get(&id).and_then(|member| member.seat)
}

fn own_name(members: &BTreeMap<NodeId, Member>, id: NodeId) -> String {
    let name = members.get(&id).map_or("", |member| &member.about.name);
    if name.is_empty() { id.to_string() } else { name.to_owned() }
}
