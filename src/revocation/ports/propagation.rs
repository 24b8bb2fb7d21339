//! How far a revision has come, and who ought to follow.

use std::time::Duration;

use super::{Pending, Violation};
use crate::revocation::policy::WhenStale;
use crate::revocation::position::{Position, Revision};
use crate::revocation::time::{UnixMillis, UnixSeconds};

/// The longest that can be waited for.
pub const PROPAGATION_WAIT_MAX: Duration = Duration::from_secs(60);
/// The most subscribers on one page.
pub const SUBSCRIBERS_PAGE_MAX: usize = 10_000;

/// Proves that what is revoked is dead elsewhere too.
pub trait Propagates: Send + Sync {
    /// Resolves once every subscriber has applied `position`, or after `timeout` (at most [`PROPAGATION_WAIT_MAX`]), or at
    /// once when there is nobody to wait for.
    fn await_propagation(
        &self,
        position: Position,
        timeout: Duration,
    ) -> Pending<'_, Result<Propagation, PropagationError>>;
    /// Takes members off that are cut off and will not come back. How many.
    fn forget(&self, member: MemberChoice) -> Pending<'_, Result<u64, PropagationError>>;
    /// Who is connected or cut off, in the order of their ids, at most `page_size` of them after `after`.
    ///
    /// # Errors
    /// When this node does not know.
    fn subscribers(&self, after: Option<[u8; 16]>, page_size: usize) -> Result<SubscriberPage, PropagationError>;
}

/// Whom to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChoice {
    /// This one.
    Id([u8; 16]),
    /// All of this name, or of this `relay/name`.
    Name(String),
}

/// How far a position has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Propagation {
    /// Every subscriber has applied it, and all of them are known. Never of nobody.
    pub complete: bool,
    /// All subscribers, those below relays and those cut off included.
    pub total: u64,
    /// Of them known to have applied it.
    pub applied: u64,
    /// Connected and behind: the first 16 names, below relays `relay/name`.
    pub laggards: Vec<String>,
    /// How many more.
    pub laggards_more: u64,
    /// How many are cut off.
    pub cut_off: u64,
    /// The first 16 names.
    pub cut_off_names: Vec<String>,
    /// Why more time alone does not complete the answer; `None` when it may.
    pub incomplete: Option<String>,
    /// How long it was waited.
    pub elapsed: Duration,
    /// From then on no subscriber accepts what was revoked; `None` when that cannot be stated.
    pub dead_everywhere_by: Option<UnixSeconds>,
    /// How many subscribers serve stale: they have no bound.
    pub unbounded_members: u64,
    /// There is nobody, and the table of members can be relied on: nobody is missing.
    pub no_subscribers: bool,
}

/// Why nothing can be said about propagation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropagationError {
    /// The request is wrong, field by field.
    #[error("{}", super::join(.0))]
    Invalid(Vec<Violation>),
    /// Too many wait already.
    #[error("too many are waiting for propagation; retry later")]
    Overloaded,
    /// No member is named so.
    #[error("no member has this id or name")]
    UnknownMember,
    /// It is connected: it leaves by itself.
    #[error("the member is connected; only one that is cut off can be forgotten")]
    MemberConnected,
    /// Only the authority knows all subscribers.
    #[error("this node is not the authority; ask the server")]
    NotAuthority,
}

/// One page of subscribers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriberPage {
    /// In the order of their ids.
    pub rows: Vec<SubscriberRow>,
    /// More follow after the last one.
    pub more: bool,
}

/// A subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriberRow {
    /// Its process.
    pub id: [u8; 16],
    /// The relay it is connected to, or was; `None` for the authority itself.
    pub parent: Option<[u8; 16]>,
    /// For people.
    pub name: String,
    /// Whether it serves others.
    pub relay: bool,
    /// From where it connected; empty when it is cut off.
    pub address: String,
    /// Its build; empty when it is cut off.
    pub version: String,
    /// The last revision it acknowledged.
    pub acked: Revision,
    /// How many revisions it is behind.
    pub lag: u64,
    /// Whether it answers checks from a set that has caught up.
    pub ready: bool,
    /// How it is being served; empty when it is cut off.
    pub mode: &'static str,
    /// The staleness it accepts.
    pub max_staleness: Duration,
    /// What it does beyond.
    pub when_stale: WhenStale,
    /// Since when it is connected, or cut off.
    pub since: UnixMillis,
    /// Why it connected again.
    pub reconnect_reason: String,
    /// Whether it is there.
    pub connected: bool,
    /// How many are known to be connected below a relay.
    pub below: u64,
    /// Of them ready.
    pub below_ready: u64,
    /// The age of the last word that it is known to have taken; `None` when it took none.
    pub staleness: Option<Duration>,
}

/// A node that does not know all subscribers, and says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotAuthority;

impl Propagates for NotAuthority {
    fn await_propagation(&self, _: Position, _: Duration) -> Pending<'_, Result<Propagation, PropagationError>> {
        Box::pin(std::future::ready(Err(PropagationError::NotAuthority)))
    }

    fn forget(&self, _: MemberChoice) -> Pending<'_, Result<u64, PropagationError>> {
        Box::pin(std::future::ready(Err(PropagationError::NotAuthority)))
    }

    fn subscribers(&self, _: Option<[u8; 16]>, _: usize) -> Result<SubscriberPage, PropagationError> {
        Err(PropagationError::NotAuthority)
    }
}
