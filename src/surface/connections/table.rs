//! Who has a place, and who has to give one up. Decides; closes nothing itself.
//!
//! A connection is *unproven* until a request of it was answered well (by somebody known, where callers are
//! authenticated), then *proven*. Room is made at the cost of an unproven one: the oldest of the address that has most of
//! them, so that a flood displaces its own. Else at the cost of the proven one that has been idle longest, if that is long
//! enough; a connection with a request or a subscription under way keeps its place.
//!
//! # Invariants
//! - T1. There are never more places than [`Limits::total`], nor more unproven ones than [`Limits::unproven`], nor more
//!   of one address or one principal than it may have.
//! - T2. `crowds` holds each block that has unproven places, with how many.
//! - T3. A place is counted in each share that it belongs to, and a share without places is forgotten.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::place::Place;
use crate::surface::peer::Peer;

/// A proven connection that has asked nothing for so long may be closed for another one: longer than any honest pause
/// between two requests of a busy caller, and far shorter than it takes anybody to miss the connection.
pub(super) const IDLE_SPARED: Duration = Duration::from_secs(30);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub total: usize,
    /// Not yet proven.
    pub unproven: usize,
    /// From one IPv4 address or one IPv6 network of 64 bits. Unix sockets have none.
    pub per_address: usize,
    /// Of one principal. Who is not authenticated is none.
    pub per_principal: usize,
}

impl Limits {
    /// So many in all. A quarter of them may be unproven, which is time enough to prove oneself however fast others come;
    /// one address or principal has at most three quarters, which leaves room for the others.
    #[must_use]
    pub fn of(total: usize) -> Self {
        let total = total.max(1);
        let (quarter, most) = ((total / 4).max(1), (total - total / 4).max(1));
        Self { total, unproven: quarter, per_address: most, per_principal: most }
    }
}

/// Why a new connection is not let in, or a proven one let go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Address,
    Principal,
}

/// Who lost a place for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Displaced {
    Unproven,
    Idle,
}

/// A connection that lost its place, and why it was the one.
pub(super) type Gone = (Arc<Place>, Displaced);

/// Those that share a limit for where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Block {
    V4(Ipv4Addr),
    /// The first 64 bits: what one host can have all of.
    V6([u8; 8]),
}

impl Block {
    pub(super) fn of(peer: Peer) -> Option<Self> {
        match peer {
            Peer::Ip(std::net::IpAddr::V4(address)) => Some(Self::V4(address)),
            Peer::Ip(std::net::IpAddr::V6(address)) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Some(Self::V6([a, b, c, d, e, f, g, h]))
            }
            Peer::Unix | Peer::Unknown => None,
        }
    }
}

/// Places that share a limit.
#[derive(Debug, Default)]
struct Share {
    count: usize,
    /// By age.
    unproven: BTreeSet<u64>,
    /// Nobody can have been idle for long enough before then, as far as the last look told.
    idle_from: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    place: Arc<Place>,
    block: Option<Block>,
    principal: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) limits: Limits,
    next: u64,
    seats: HashMap<u64, Seat>,
    all: Share,
    blocks: HashMap<Block, Share>,
    crowds: BTreeSet<(usize, Block)>,
    principals: HashMap<Arc<str>, Share>,
}

/// Whom a room is looked for among.
enum Among<'a> {
    All,
    Block(Block),
    Principal(&'a str),
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            seats: HashMap::new(),
            all: Share::default(),
            blocks: HashMap::new(),
            crowds: BTreeSet::new(),
            principals: HashMap::new(),
        }
    }

    pub(super) fn unproven(&self) -> usize {
        self.all.unproven.len()
    }

    /// Gives `place` to a connection from `peer`; and who lost a place for it.
    pub(super) fn admit(
        &mut self,
        peer: Peer,
        now: Instant,
        place: impl FnOnce(u64) -> Arc<Place>,
    ) -> Result<(Arc<Place>, Vec<Gone>), Refused> {
        let block = Block::of(peer);
        let mut gone = Vec::new();
        if let Some(block) = block
            && self.blocks.get(&block).is_some_and(|share| share.count >= self.limits.per_address)
        {
            gone.push(self.make_room(&Among::Block(block), now).ok_or(Refused::Address)?);
        }
        if self.all.unproven.len() >= self.limits.unproven.min(self.limits.total) {
            gone.extend(self.make_room(&Among::All, now));
        }
        if self.all.count >= self.limits.total {
            gone.push(self.make_room(&Among::All, now).ok_or(Refused::Full)?);
        }
        let id = self.next;
        self.next += 1;
        let place = place(id);
        self.seats.insert(id, Seat { place: Arc::clone(&place), block, principal: None });
        self.all.count += 1;
        self.all.unproven.insert(id);
        if let Some(block) = block {
            self.blocks.entry(block).or_default().count += 1;
            self.change_crowd(block, |unproven| unproven.insert(id));
        }
        Ok((place, gone))
    }

    /// Changes which places of a block are unproven.
    fn change_crowd(&mut self, block: Block, change: impl FnOnce(&mut BTreeSet<u64>) -> bool) {
        let Some(share) = self.blocks.get_mut(&block) else { return };
        self.crowds.remove(&(share.unproven.len(), block));
        change(&mut share.unproven);
        if !share.unproven.is_empty() {
            self.crowds.insert((share.unproven.len(), block));
        }
    }

    /// The connection has proven itself, as `principal` if it is somebody; who lost a place for it.
    pub(super) fn prove(&mut self, id: u64, principal: Option<&str>, now: Instant) -> Result<Option<Gone>, Refused> {
        let mut gone = None;
        // It may have lost its place in the meantime.
        if !self.seats.contains_key(&id) {
            return Ok(gone);
        }
        if let Some(principal) = principal {
            let count = self.principals.get(principal).map_or(0, |share| share.count);
            if count >= self.limits.per_principal {
                gone = Some(self.make_room(&Among::Principal(principal), now).ok_or(Refused::Principal)?);
            }
        }
        let Some(seat) = self.seats.get_mut(&id) else { return Ok(gone) };
        self.all.unproven.remove(&id);
        let block = seat.block;
        if let (Some(principal), None) = (principal, &seat.principal) {
            let principal: Arc<str> = principal.into();
            seat.principal = Some(Arc::clone(&principal));
            self.principals.entry(principal).or_default().count += 1;
        }
        seat.place.set_proven();
        if let Some(block) = block {
            self.change_crowd(block, |unproven| unproven.remove(&id));
        }
        Ok(gone)
    }

    /// Takes the place of an unproven connection, or else of the longest idle one; for when descriptors run out.
    pub(super) fn displace(&mut self, now: Instant) -> Option<Gone> {
        self.make_room(&Among::All, now)
    }

    /// The connection is over.
    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<Place>> {
        let seat = self.seats.remove(&id)?;
        self.all.count -= 1;
        self.all.unproven.remove(&id);
        if let Some(block) = seat.block {
            self.change_crowd(block, |unproven| unproven.remove(&id));
            if let Some(share) = self.blocks.get_mut(&block) {
                share.count -= 1;
                if share.count == 0 {
                    self.blocks.remove(&block);
                }
            }
        }
        if let Some(principal) = &seat.principal
            && let Some(share) = self.principals.get_mut(principal)
        {
            share.count -= 1;
            if share.count == 0 {
                self.principals.remove(principal);
            }
        }
        Some(seat.place)
    }

    fn make_room(&mut self, among: &Among<'_>, now: Instant) -> Option<Gone> {
        let share = match among {
            Among::All => Some(&self.all),
            Among::Block(block) => self.blocks.get(block),
            Among::Principal(principal) => self.principals.get(*principal),
        }?;
        if let Some(oldest) = self.crowded(among).or_else(|| share.unproven.first().copied()) {
            return Some((self.remove(oldest)?, Displaced::Unproven));
        }
        if share.idle_from.is_some_and(|from| now < from) {
            return None;
        }
        match self.longest_idle(among, now) {
            Ok(id) => Some((self.remove(id)?, Displaced::Idle)),
            Err(from) => {
                let share = match among {
                    Among::All => Some(&mut self.all),
                    Among::Block(block) => self.blocks.get_mut(block),
                    Among::Principal(principal) => self.principals.get_mut(*principal),
                };
                if let Some(share) = share {
                    share.idle_from = Some(from);
                }
                None
            }
        }
    }

    /// The oldest unproven place of the block that has most, where all blocks are looked at and one has several.
    fn crowded(&self, among: &Among<'_>) -> Option<u64> {
        let (count, block) = self.crowds.last().filter(|_| matches!(among, Among::All))?;
        let share = self.blocks.get(block).filter(|_| *count > 1)?;
        share.unproven.first().copied()
    }

    /// The proven one that has been idle longest, if that is long enough; else the time before which none can have been.
    fn longest_idle(&self, among: &Among<'_>, now: Instant) -> Result<u64, Instant> {
        let belongs = |seat: &Seat| match among {
            Among::All => true,
            Among::Block(block) => seat.block == Some(*block),
            Among::Principal(principal) => seat.principal.as_deref() == Some(*principal),
        };
        let since = |seat: &Seat| seat.place.idle_since().unwrap_or(now);
        let proven = self.seats.iter().filter(|(_, seat)| seat.place.is_proven() && belongs(seat));
        let longest = proven.map(|(id, seat)| (since(seat), *id)).min();
        match longest {
            Some((since, id)) if since + IDLE_SPARED <= now => Ok(id),
            Some((since, _)) => Err(since + IDLE_SPARED),
            None => Err(now),
        }
    }
}

#[cfg(test)]
mod tests;
