//! The receiving side: keeps a set equal to the authority's, or knows that it is not.
//!
//! Without I/O: a driver hands in what happened and carries out what [`Follower::poll_action`] says.
//!
//! # Call order
//! After [`Follower::new`] and after every `handle_*`, poll until `None`. On [`Action::Connect`] wait, connect and call
//! [`Follower::handle_connected`], or [`Follower::handle_disconnect`] when that fails. Hand in the connection's frames in
//! order. [`Follower::handle_disconnect`] tells of a connection that was lost; after [`Action::Disconnect`] drop the
//! connection and hand nothing of it in any more. Call [`Follower::handle_tick`] every [`TICK`] all the while.
//!
//! # States
//! ```text
//!            Connect            Welcome            applied, signed
//!   INIT ──▶ CONNECT ──Hello──▶ RESUMING ─────────▶ LIVE ──no signed word for dead_after──▶ SUSPECT
//!              ▲  ▲             SNAPSHOTTING ──────▶ │ ◀───────────── a word ───────────────┘ │
//!              │  └──────────── lost, refused ───────┘◀─ a server heard it later, or 60 s ────┘
//!              └── DIVERGED (keeps connecting until a verified snapshot is swapped in)
//! ```
//! A set kept on disk enters between INIT and CONNECT ([`Follower::handle_cache`]): WARM until the first Welcome, served
//! as what is held already, and infinitely stale until the authority is heard.
//!
//! # Invariants
//! - F1. Readers see contiguous revisions, or a snapshot, all of which the authority signed for. What was not signed for yet
//!   waits unseen.
//! - F2. A set is swapped only for a verified one that is not older: a position never goes back within an epoch.
//! - F3. Freshness moves only on the authority's signed word about exactly the state held. A relay cannot invent it.
//! - F4. Once anything contradicts the set it takes nothing back any more, until a verified snapshot replaces it.
//! - F5. No sequence of frames panics.

mod acks;
mod action;
mod fault;
mod freshness;
mod incoming;
mod kept;
mod link;
mod pending;
mod probe;
mod replicated;
mod status;
mod stream;
mod warm;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use acks::Acks;
use freshness::Freshness;
use incoming::Incoming;
use link::{Link, Phase};
use probe::Probes;
use replicated::Replicated;

pub use action::{Action, Alarm, EpochChange, SetSwap};
pub use fault::{DisconnectReason, Divergence, ResyncFault};
pub use kept::{Descent, KeptDelta, Provenance, SignedSnapshot, Verified};
pub use status::{FollowerState, FollowerStatus};
pub use warm::{CacheFault, CachedDelta, Kept};

use super::backoff::Backoff;
use super::frames::{
    Held, Hello, NodeId, PolicyInForce, ProtocolRange, REASON_BYTES_MAX, Role, Subtree, ToServer, ToSubscriber,
};
use super::moment::Moment;
use super::signature::PublicKey;
use crate::revocation::{LifetimePolicy, Revision};

/// How often [`Follower::handle_tick`] is to be called.
pub const TICK: Duration = Duration::from_millis(100);
/// How long a subscription must have been live for the next failure to count as the first.
const STEADY_AFTER: Duration = Duration::from_secs(60);
/// How long the server may take to answer Hello.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// How long no frame at all may come while a snapshot or a backlog does; a server may need some time to find one.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a suspect server is kept, which may hear the authority again, before it is asked anew.
const SUSPECT_MAX: Duration = Duration::from_secs(60);
/// How long it may take to come as far as the server, whatever goes on arriving: the largest set at 2 MB/s.
const CATCH_UP_MAX: Duration = Duration::from_secs(15 * 60);
/// After so many failed resyncs a diverged follower listens, merging what it hears, and tries again more and more rarely.
const RESYNCS_MAX: u32 = 3;
/// The most entries held unless options say otherwise: about 3 GiB.
pub const ENTRIES_MAX: u64 = 64_000_000;

/// Who follows, and within which limits.
#[derive(Clone, Debug)]
pub struct FollowerOptions {
    /// Names this process.
    pub subscriber: NodeId,
    /// For people; at most [`super::frames::NAME_BYTES_MAX`].
    pub name: String,
    /// What it does with the set.
    pub role: Role,
    /// The build; at most [`super::frames::VERSION_BYTES_MAX`].
    pub version: String,
    /// Of a relay's follower: its own id; a Welcome that came through it is refused.
    pub path: Vec<NodeId>,
    /// Not ready below this revision.
    pub min_revision: Revision,
    /// The authority's key; `None` pins the first key that proves itself.
    pub public_key: Option<PublicKey>,
    /// The most entries this process may hold; a larger set is refused as a whole.
    pub entries_max: u64,
    /// Where it is stricter than the logged policy, it is in force.
    pub local_policy: Option<PolicyInForce>,
    /// What a miss means here for a token that may have outlived an entry: counts where it is stricter than the logged policy.
    pub lifetime_policy: LifetimePolicy,
    /// Serves stale whatever policy says: for an operator who must keep things going, and says so in every ack.
    pub break_glass: bool,
    /// Hands on what it verified ([`Action::Verified`], [`SetSwap::provenance`]): for a relay, or a cache on disk.
    pub keeps: bool,
    /// For jitter; each process passes its own.
    pub seed: u64,
}

impl FollowerOptions {
    /// A leaf of this name, with no limits of its own.
    #[must_use]
    pub fn leaf(subscriber: NodeId, name: &str, seed: u64) -> Self {
        Self {
            subscriber,
            name: name.to_owned(),
            role: Role::Leaf,
            version: String::new(),
            path: Vec::new(),
            min_revision: Revision(0),
            public_key: None,
            entries_max: ENTRIES_MAX,
            local_policy: None,
            lifetime_policy: LifetimePolicy::Warn,
            break_glass: false,
            keeps: false,
            seed,
        }
    }
}

/// The receiving state machine. Owns the only writer of the set that readers share.
#[derive(Debug)]
pub struct Follower {
    options: FollowerOptions,
    /// The key that words of the authority are verified under, once known.
    pinned: Option<PublicKey>,
    phase: Phase,
    /// What readers are served.
    held: Option<Replicated>,
    /// What is being made beside it.
    incoming: Option<Incoming>,
    /// Why what is held does not equal the authority's set, if so.
    divergence: Option<Divergence>,
    /// Failed attempts to get a snapshot, in a row.
    resyncs_failed: u32,
    freshness: Freshness,
    /// The authority was not heard for too long: other servers are asked whether they hear it.
    suspect: bool,
    probes: Probes,
    /// The last set offered has more entries than may be held here.
    over_limit: bool,
    caught_up_once: bool,
    /// What is held came from disk, and no server was followed yet.
    warm: bool,
    /// Everything is asked for again, although what is held is sound.
    refreshing: bool,
    /// What lies below this relay.
    subtree: Option<Subtree>,
    /// The last revision that the authority is known to have reached in the epoch followed.
    head: Revision,
    backoff: Backoff,
    /// Between attempts of a follower that has diverged for good.
    resync_backoff: Backoff,
    acks: Acks,
    reconnect_reason: String,
    actions: VecDeque<Action>,
    published: Option<FollowerStatus>,
}

impl Follower {
    /// Holds nothing yet, and wants to connect at once.
    #[must_use]
    pub fn new(options: FollowerOptions) -> Self {
        Self {
            pinned: options.public_key,
            phase: Phase::Disconnected,
            held: None,
            incoming: None,
            divergence: None,
            resyncs_failed: 0,
            freshness: Freshness::default(),
            suspect: false,
            probes: Probes::new(options.seed),
            over_limit: false,
            caught_up_once: false,
            warm: false,
            refreshing: false,
            subtree: None,
            head: Revision(0),
            backoff: Backoff::new(options.seed),
            resync_backoff: Backoff::new(!options.seed),
            acks: Acks::default(),
            reconnect_reason: String::new(),
            actions: VecDeque::from([Action::Connect { after: Duration::ZERO }]),
            published: None,
            options,
        }
    }

    /// The connection is there: says Hello.
    pub fn handle_connected(&mut self, now: Moment) {
        self.incoming = None;
        // It came over a connection that is gone.
        self.held.as_mut().map(Replicated::take_pending);
        self.phase = Phase::Greeting { since: now.boot };
        self.acks = Acks::default();
        let goes_on = self.divergence.is_none() && !std::mem::take(&mut self.refreshing);
        let held = self.held.as_ref().filter(|_| goes_on).map(Replicated::held);
        let hello = Hello { reconnect_reason: std::mem::take(&mut self.reconnect_reason), ..self.hello(held) };
        self.actions.push_back(Action::Send(ToServer::Hello(Box::new(hello))));
    }

    fn hello(&self, held: Option<Held>) -> Hello {
        Hello {
            protocol: ProtocolRange::SPOKEN,
            subscriber: self.options.subscriber,
            name: self.options.name.clone(),
            role: self.options.role,
            held,
            min_revision: self.options.min_revision,
            reconnect_reason: String::new(),
            path: self.options.path.clone(),
            version: self.options.version.clone(),
            probe: false,
            policy: self.policy_in_force(),
        }
    }

    /// A frame came.
    pub fn handle_frame(&mut self, now: Moment, frame: ToSubscriber) {
        let (welcomed, frame) = match (&self.phase, frame) {
            // A late frame of a connection that was given up.
            (Phase::Disconnected, _) => return,
            (_, ToSubscriber::GoAway(away)) => return self.handle_go_away(&away),
            (Phase::Greeting { .. }, ToSubscriber::Welcome(welcome)) => return self.handle_welcome(now, *welcome),
            (phase, frame) => (matches!(phase, Phase::Following(_)), frame),
        };
        if !welcomed || matches!(frame, ToSubscriber::Welcome(_)) {
            return self.break_off(DisconnectReason::Unexpected { frame: name_of(&frame) });
        }
        self.note_frame(now, &frame);
        let ack_now = self.handle_stream(now, frame);
        self.acks.handle_frame(ack_now);
        self.send_due_ack(now);
    }

    /// The connection was lost, or could not be made; `reason` is told to the next server.
    pub fn handle_disconnect(&mut self, reason: &str) {
        self.reconnect(reason.to_owned(), Backoff::handle_failure);
    }

    /// What lies below this relay has changed: it is told with the next ack, at once while somebody waits for it.
    pub fn handle_subtree(&mut self, now: Moment, subtree: Subtree) {
        if self.subtree.as_ref() != Some(&subtree) {
            self.acks.handle_subtree(&subtree);
            self.subtree = Some(subtree);
            self.send_due_ack(now);
        }
    }

    /// Asks for a newer snapshot: whoever keeps what proves the set has too many deltas behind the one it began from.
    /// What is held is served meanwhile.
    pub fn begin_refresh(&mut self) {
        let follows = matches!(self.phase, Phase::Following(_)) && self.incoming.is_none();
        if follows && self.divergence.is_none() {
            self.refreshing = true;
            self.break_off(DisconnectReason::Refresh);
        }
    }

    /// Time passed.
    pub fn handle_tick(&mut self, now: Moment) {
        let expired = match &self.phase {
            Phase::Disconnected => None,
            Phase::Greeting { since } => {
                (now.since(*since) > WELCOME_WITHIN).then_some(DisconnectReason::NoWelcome { within: WELCOME_WITHIN })
            }
            Phase::Following(link) => self.overdue(now, link),
        };
        if let Some(reason) = expired {
            self.suspect |= matches!(reason, DisconnectReason::Silent { .. });
            return self.break_off(reason);
        }
        self.probe_if_suspect(now);
        if let Phase::Following(link) = &self.phase
            && link.live_since.is_some_and(|since| now.since(since) >= STEADY_AFTER)
        {
            self.backoff.reset();
        }
        self.send_due_ack(now);
    }

    /// What to do next; the status last, once everything else is done.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let status = self.status();
        (self.published != Some(status)).then(|| {
            self.published = Some(status);
            Action::Publish(status)
        })
    }

    /// Gives up the connection and plans the next one.
    fn break_off(&mut self, reason: DisconnectReason) {
        let text = reason.to_string();
        let window = reason.asked_window();
        let moves = matches!(reason, DisconnectReason::Moved);
        self.actions.push_back(Action::Disconnect { reason });
        self.reconnect(text, |backoff| match window {
            _ if moves => Duration::ZERO,
            Some(window) => backoff.handle_asked(window),
            None => backoff.handle_failure(),
        });
    }

    fn reconnect(&mut self, mut reason: String, wait: impl FnOnce(&mut Backoff) -> Duration) {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        self.reconnect_reason = reason;
        self.phase = Phase::Disconnected;
        self.incoming = None;
        let after = wait(&mut self.backoff);
        self.actions.push_back(Action::Connect { after });
    }

    /// Why a subscription must be given up now, if so.
    fn overdue(&self, now: Moment, link: &Link) -> Option<DisconnectReason> {
        if link.resync_at.is_some_and(|at| now.boot >= at) {
            return Some(DisconnectReason::Resync);
        }
        if link.live_since.is_none() && now.since(link.behind_since) > CATCH_UP_MAX {
            return Some(DisconnectReason::Silent { limit: CATCH_UP_MAX });
        }
        let (since, limit) = match link.live_since {
            Some(_) => (link.word_at, SUSPECT_MAX.max(link.dead_after)),
            None => (link.frame_at.max(link.word_at), SILENCE_MAX.max(link.dead_after)),
        };
        (now.since(since) > limit).then_some(DisconnectReason::Silent { limit })
    }

    /// A heartbeat alone brings nobody further; one that is news is noted as a word.
    fn note_frame(&mut self, now: Moment, frame: &ToSubscriber) {
        if let Phase::Following(link) = &mut self.phase
            && !matches!(frame, ToSubscriber::Heartbeat(_))
        {
            link.frame_at = now.boot;
        }
    }
}

fn name_of(frame: &ToSubscriber) -> &'static str {
    match frame {
        ToSubscriber::Welcome(_) => "welcome",
        ToSubscriber::SnapshotBegin(_) => "snapshot_begin",
        ToSubscriber::SnapshotChunk(_) => "snapshot_chunk",
        ToSubscriber::SnapshotEnd(_) => "snapshot_end",
        ToSubscriber::Delta(_) => "delta",
        ToSubscriber::Heartbeat(_) => "heartbeat",
        ToSubscriber::GoAway(_) => "go_away",
    }
}
