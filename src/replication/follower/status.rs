//! How a follower is: a small value for readers, copied out after each change.

use std::time::Duration;

use super::freshness::Word;
use super::link::Phase;
use super::{Follower, Replicated};
use crate::replication::moment::Moment;
use crate::replication::signature::PublicKey;
use crate::revocation::{Digest, Epoch, Policy, Position, Revision};

/// Where a follower is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FollowerState {
    /// It never held a set, and has no connection.
    Init,
    /// It holds a set from disk, and was not welcomed by a server yet.
    Warm,
    /// It has no connection.
    Connecting,
    /// It is getting the revisions it lacks.
    Resuming,
    /// It is getting a snapshot.
    Snapshotting,
    /// It follows, and the authority's word proves it.
    Live,
    /// The authority was not heard for too long.
    Suspect,
    /// What it holds does not equal the authority's set. It revokes what it hears of and takes nothing back.
    Diverged,
}

impl FollowerState {
    /// The name used on every surface.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Warm => "warm",
            Self::Connecting => "connecting",
            Self::Resuming => "resuming",
            Self::Snapshotting => "snapshotting",
            Self::Live => "live",
            Self::Suspect => "suspect",
            Self::Diverged => "diverged",
        }
    }
}

/// What readers need to judge an answer, and people to judge a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// Where it is in its life.
    pub state: FollowerState,
    /// The epoch followed; `None` before the first verified set.
    pub epoch: Option<Epoch>,
    /// The last verified revision.
    pub revision: Revision,
    /// The digest at it.
    pub digest: Digest,
    /// The last revision that the authority is known to have reached.
    pub head: Revision,
    /// Has a verified set at or beyond the first Welcome's head and the minimum asked for.
    pub ready: bool,
    /// The set is larger than this process may hold: what is held is no longer followed.
    pub over_limit: bool,
    /// The logged policy.
    pub policy: Policy,
    /// The key that words of the authority are verified under, once known.
    pub public_key: Option<PublicKey>,
    word: Option<Word>,
}

impl FollowerStatus {
    /// The verified position; `None` before the first verified set.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.epoch.map(|epoch| Position { epoch: epoch.id, revision: self.revision })
    }

    /// How many revisions it is known to lack.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.head.0.saturating_sub(self.revision.0)
    }

    /// The age of the authority's last signed word about the state held; [`Duration::MAX`] when there was none.
    #[must_use]
    pub fn staleness(&self, now: Moment) -> Duration {
        self.word.map_or(Duration::MAX, |word| word.staleness(now, self.policy.clock_skew_max))
    }
}

impl Follower {
    /// How it is.
    #[must_use]
    pub fn status(&self) -> FollowerStatus {
        let (revision, digest) = self.held.as_ref().map(Replicated::verified).unwrap_or_default();
        FollowerStatus {
            state: self.state(),
            epoch: self.held.as_ref().map(Replicated::epoch),
            revision,
            digest,
            head: self.head.max(revision),
            ready: self.caught_up_once && self.divergence.is_none(),
            over_limit: self.over_limit,
            policy: self.held.as_ref().map(|held| *held.writer().policy()).unwrap_or_default(),
            public_key: self.pinned,
            word: self.freshness.word(),
        }
    }

    fn state(&self) -> FollowerState {
        match &self.phase {
            _ if self.divergence.is_some() => FollowerState::Diverged,
            Phase::Following(link) if link.live_since.is_some() && !self.suspect => FollowerState::Live,
            _ if self.suspect => FollowerState::Suspect,
            Phase::Following(_) if self.incoming.is_some() => FollowerState::Snapshotting,
            Phase::Following(_) => FollowerState::Resuming,
            _ if self.held.is_none() => FollowerState::Init,
            _ if self.warm => FollowerState::Warm,
            _ => FollowerState::Connecting,
        }
    }

    /// Whether what is held has come as far as the server was at Welcome, and as far as was asked for.
    pub(super) fn is_caught_up(&self) -> bool {
        let Phase::Following(link) = &self.phase else { return false };
        let Some(held) = self.held.as_ref().filter(|held| held.epoch() == link.epoch) else { return false };
        self.divergence.is_none() && held.verified().0 >= link.head.max(self.options.min_revision)
    }
}
