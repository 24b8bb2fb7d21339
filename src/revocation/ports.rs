//! What the surfaces ask of a node, as small traits and plain values.
//!
//! Surfaces parse outside bytes into these types and render the answers; whoever implements the traits decides.
//! Waiting is expressed as a boxed future, so that the core needs no runtime.

mod audit;
mod credentials;
mod operate;
mod preview;
mod propagation;
mod verification;

pub use audit::{AuditHead, AuditHeadError, ExportPart, ExportParts, ExportedRecord};
pub use credentials::{
    CREDENTIAL_NAME_BYTES_MAX, CREDENTIALS_MAX, Credential, CredentialError, CredentialHash, CredentialId,
    CredentialIdError, Credentials,
};
pub use preview::{PREVIEW_IDS_MAX, PREVIEWS_IDS_MAX, Preview};
pub use propagation::{
    MemberChoice, NotAuthority, PROPAGATION_WAIT_MAX, Propagates, Propagation, PropagationError, SUBSCRIBERS_PAGE_MAX,
    SubscriberPage, SubscriberRow,
};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::claims::Claims;
use super::grant::Grant;
use super::policy::Policy;
use super::position::{Epoch, Position, Revision, RevocationId};
use super::selector::{Selector, Shape, TestedClaim};
use super::set::Finding;
use super::time::{Cutoff, Minute, UnixMillis, UnixSeconds};
use super::verdict::{UnknownCause, Verdict};
use super::{Digest, Hit};

pub use verification::{
    AppliedPolicy, ApplyPolicy, POLICY_LAGGARDS_NAMED, POLICY_SOURCE_BYTES_MAX, POLICY_VERSIONS_KEPT, Policies,
    PolicyApplied, PolicyChoice, PolicyError, VerificationPolicies,
};

pub use operate::{AcceptLossError, BACKUP_CHUNK_BYTES, BackupPart, BackupParts, OperateError, Operates};

/// A future that may be sent between threads.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Answers checks from an in-memory set, without I/O.
pub trait Checks: Send + Sync {
    /// Whether a token with these claims is revoked. With `at_least`, only from a set that has come that far.
    fn check(&self, claims: &Claims, at_least: Option<Position>) -> Answer;
}

/// A verdict, where it was taken, and what the node's policy makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the token is to be refused: for `Revoked` always, for `Unknown` as policy says.
    pub deny: bool,
    /// Everything up to here was taken into account.
    pub position: Position,
    /// The age of the last word from the authority.
    pub staleness: Duration,
    /// The token lives longer than entries are kept, and policy only warns of it: count it, log it once per issuer.
    pub beyond_horizon: bool,
    /// The verdict rests on a token time that is missing, or too far in the future to be believed: count it.
    pub untimed: bool,
}

/// Accepts changes. Every call answers after the change is durable and in force.
pub trait Writes: Send + Sync {
    /// Revokes all of it or none.
    fn revoke(&self, request: RevokeRequest) -> Pending<'_, Result<RevokeReply, WriteError>>;
    /// Takes back all of it or none.
    fn reinstate(&self, request: ReinstateRequest) -> Pending<'_, Result<ReinstateReply, WriteError>>;
}

/// Finds accepted revocations with their audit facts.
pub trait Finds: Send + Sync {
    /// One revocation; `None` when the id is unknown or pruned.
    fn find(
        &self,
        id: RevocationId,
        at_least: Option<Position>,
    ) -> Pending<'_, Result<Found<Option<Record>>, FindError>>;
    /// A page of revocations, newest first.
    fn list(&self, query: Query) -> Pending<'_, Result<Found<Page>, FindError>>;
}

/// Tells how a node is.
pub trait Reports: Send + Sync {
    /// The node's condition now.
    fn status(&self) -> Status;
}

/// Who asks, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The principal: requests are idempotent by it, the audit trail names it.
    pub principal: String,
    /// The address the request came from.
    pub peer: String,
    /// What it may do.
    pub grant: Arc<Grant>,
}

/// What a revocation is aimed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Claims chosen by the caller.
    Selector(Selector),
    /// A handed-in token, addressed by this selector.
    Token {
        /// `{iss, jti}`, or the token's SHA-256.
        selector: Selector,
        /// The token's own `exp`; `None` when it has none that can be read.
        exp: Option<UnixSeconds>,
    },
}

impl Target {
    /// The selector either way.
    #[must_use]
    pub fn selector(&self) -> &Selector {
        match self {
            Self::Selector(selector) | Self::Token { selector, .. } => selector,
        }
    }
}

/// Which tokens, by their tested time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CutoffChoice {
    /// Unbounded for selectors that name a token, session or key; the authority's now for all others.
    #[default]
    Natural,
    /// At or before this second.
    At(UnixSeconds),
    /// Every matching token.
    Unbounded,
}

/// When a revocation may be forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryChoice {
    /// Once every matching token is dead anyway.
    #[default]
    Natural,
    /// At this time, rounded up to the minute.
    At(UnixSeconds),
    /// So much later than the authority's now, rounded up to the minute.
    In(Duration),
    /// When it is reinstated.
    Never,
}

/// One thing to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// What.
    pub target: Target,
    /// Which tokens.
    pub cutoff: CutoffChoice,
    /// Until when.
    pub expiry: ExpiryChoice,
    /// Selectors of scalar claims that are spared; at most [`super::EXCEPTIONS_MAX`].
    pub exceptions: Vec<Selector>,
    /// For the audit trail; at most [`REASON_BYTES_MAX`].
    pub reason: String,
}

/// The longest reason, in bytes.
pub const REASON_BYTES_MAX: usize = 512;
/// The longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// The most revocations or reinstatements in one request.
pub const REQUEST_ITEMS_MAX: usize = 10_000;
/// The largest request, in encoded bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Revoke all of these.
#[derive(Clone, Debug)]
pub struct RevokeRequest {
    /// Who asks.
    pub caller: Caller,
    /// Makes a repeat safe.
    pub request_id: Option<String>,
    /// A hash of everything that makes two requests the same, without the request id.
    pub body_hash: [u8; 32],
    /// 1 to [`REQUEST_ITEMS_MAX`].
    pub items: Vec<Revoke>,
    /// Decide everything, change nothing.
    pub dry_run: bool,
    /// Accept selectors without `iss` although several issuers are configured.
    pub any_issuer: bool,
    /// The caller knows that it revokes a whole issuer, or for good.
    pub confirmed: bool,
}

/// What came of a [`RevokeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeReply {
    /// Where it is in force; `None` in a dry run.
    pub position: Option<Position>,
    /// In the order of the request.
    pub outcomes: Vec<Revoked>,
    /// This is the first outcome of an earlier request with the same id.
    pub repeated: bool,
}

/// One accepted revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// `None` in a dry run and when nothing was written.
    pub id: Option<RevocationId>,
    /// What was revoked.
    pub selector: Selector,
    /// The cutoff of this revocation.
    pub cutoff: Cutoff,
    /// The expiry of this revocation.
    pub expiry: Minute,
    /// The handed-in token has expired: nothing was written.
    pub already_expired: bool,
    /// The selector already had live revocations.
    pub merged: bool,
    /// What it would come to; in a dry run that would write it.
    pub preview: Option<Preview>,
}

/// What to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// One revocation.
    Id(RevocationId),
    /// All live revocations of a selector.
    Selector(Selector),
}

/// Take all of these back.
#[derive(Clone, Debug)]
pub struct ReinstateRequest {
    /// Who asks.
    pub caller: Caller,
    /// Makes a repeat safe.
    pub request_id: Option<String>,
    /// A hash of everything that makes two requests the same, without the request id.
    pub body_hash: [u8; 32],
    /// 1 to [`REQUEST_ITEMS_MAX`].
    pub items: Vec<Undo>,
    /// For the audit trail; at most [`REASON_BYTES_MAX`].
    pub reason: String,
    /// Decide everything, change nothing.
    pub dry_run: bool,
}

/// What came of a [`ReinstateRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReinstateReply {
    /// Where it is in force; `None` in a dry run.
    pub position: Option<Position>,
    /// In the order of the request: the ids that were undone.
    pub undone: Vec<Vec<RevocationId>>,
    /// This is the first outcome of an earlier request with the same id.
    pub repeated: bool,
}

/// Why a write was not accepted. Nothing was changed, unless `OutcomeUnknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The request is wrong, field by field.
    #[error("{}", join(.0))]
    Invalid(Vec<Violation>),
    /// The caller's grant does not reach so far, field by field.
    #[error("{}", join(.violations))]
    NotPermitted {
        /// What it does not permit.
        violations: Vec<Violation>,
    },
    /// Its new shapes would make more than [`super::SHAPES_MAX`] active.
    #[error("at most {} shapes can be active at once; active: {}", super::SHAPES_MAX, list(.active))]
    TooManyShapes {
        /// The active ones.
        active: Vec<Shape>,
    },
    /// Its new entries would make more than the policy allows.
    #[error("at most {limit} live entries are allowed (max_entries)")]
    TooManyEntries {
        /// [`Policy::max_entries`].
        limit: u64,
    },
    /// The request id was used for another request.
    #[error("request_id was already used for another request")]
    RequestIdReused,
    /// More requests are waiting than the queue holds.
    #[error("too many writes are waiting; retry later")]
    Overloaded,
    /// The journal does not accept writes now.
    #[error("writes are refused: {0}")]
    Unavailable(String),
    /// This node follows another, and accepts no writes.
    #[error("this is a replica, which accepts no writes; ask {upstream}")]
    NotTheAuthority {
        /// What it follows, by URL.
        upstream: String,
    },
    /// It may or may not have been accepted.
    #[error("outcome unknown ({0}); a retry with the same request_id is safe")]
    OutcomeUnknown(String),
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, as in `revocations[3].cutoff_seconds`.
    pub field: String,
    /// What is wrong, with the limit and what was given; never a claim's value.
    pub description: String,
}

fn join(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    texts.join("; ")
}

fn list(shapes: &[Shape]) -> String {
    let texts: Vec<String> = shapes.iter().map(|shape| format!("{{{shape}}}")).collect();
    texts.join(" ")
}

/// Which revocations to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The selector holds this claim with this value.
    pub claim: Option<(String, String)>,
    /// Accepted from this actor.
    pub actor: Option<String>,
    /// Accepted at or after.
    pub accepted_from: Option<UnixSeconds>,
    /// Accepted before.
    pub accepted_before: Option<UnixSeconds>,
    /// Leaves out what has expired or was reinstated.
    pub live_only: bool,
    /// 1 to [`PAGE_SIZE_MAX`].
    pub page_size: usize,
    /// From the page before.
    pub page_token: Option<String>,
    /// Only from an index that has come this far.
    pub at_least: Option<Position>,
}

/// The most revocations on one page.
pub const PAGE_SIZE_MAX: usize = 1000;

/// A result of the search index.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// What was found.
    pub value: T,
    /// How far the index had come.
    pub indexed_through: Position,
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// Newest first.
    pub records: Vec<Record>,
    /// For the page after; `None` on the last.
    pub next: Option<String>,
}

/// An accepted revocation with its audit facts.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub id: RevocationId,
    /// What it revokes.
    pub selector: Selector,
    /// Which tokens.
    pub cutoff: Cutoff,
    /// Until when.
    pub expiry: Minute,
    /// What it spares.
    pub exceptions: Vec<Selector>,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub actor: String,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// Live, expired or reinstated.
    pub state: RecordState,
}

/// What became of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// In force.
    Live,
    /// Past its expiry.
    Expired,
    /// Taken back.
    Reinstated {
        /// By whom.
        actor: String,
        /// When.
        at: UnixMillis,
        /// Why.
        reason: String,
    },
}

/// Why a search failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The request is wrong, field by field.
    #[error("{}", join(.0))]
    Invalid(Vec<Violation>),
    /// The index did not come as far as `at_least` in time.
    #[error("the index has come to {indexed_through}, not yet to the position asked for")]
    Behind {
        /// How far it has come.
        indexed_through: Position,
    },
    /// This node follows another, and holds keyed hashes only.
    #[error("this is a replica, which holds no identifiers to search; ask {upstream}")]
    NotTheAuthority {
        /// What it follows, by URL.
        upstream: String,
    },
    /// The index cannot answer now.
    #[error("the search index is unavailable: {0}")]
    Unavailable(String),
}

/// The condition of a node.
#[derive(Clone, Debug)]
pub struct Status {
    /// The build.
    pub version: &'static str,
    /// The epoch followed.
    pub epoch: Epoch,
    /// The last revision in force here.
    pub revision: Revision,
    /// The digest there.
    pub digest: Digest,
    /// How many entries are live.
    pub live_entries: u64,
    /// The logged policy.
    pub policy: Policy,
    /// The active shapes.
    pub shapes: Vec<Shape>,
    /// The expiry floor.
    pub floor: Minute,
    /// The age of the last word from the authority.
    pub staleness: Duration,
    /// How long the process has run.
    pub uptime: Duration,
    /// How far the search index has come.
    pub indexed_through: Revision,
    /// The oldest revision a subscriber can resume from.
    pub oldest: Revision,
    /// How many subscribers are connected.
    pub subscribers: usize,
    /// How many revisions subscribers held that the restored backup lacked.
    pub history_lost: u64,
    /// How many members are cut off.
    pub members_cut_off: u64,
    /// Why the members cannot be relied on; `None` when they can.
    pub members_trouble: Option<String>,
    /// Why writes are refused; `None` when they are not.
    pub writes_refused: Option<String>,
    /// Why the clock is in doubt; `None` when it is not.
    pub clock_alarm: Option<String>,
    /// What keeps the search index from following; `None` when it follows.
    pub index_trouble: Option<String>,
    /// The key that signs deltas, heartbeats and snapshots.
    pub public_key: [u8; 32],
    /// The last record and its checksum; `None` where there is no journal.
    pub audit_head: Option<AuditHead>,
    /// The wall clock.
    pub now: UnixMillis,
    /// How it follows; `None` at the authority.
    pub following: Option<Following>,
}

/// How a replica follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// What it follows or tries to, by URL.
    pub upstream: String,
    /// Why the last attempt to follow failed, on one line, until one succeeds.
    pub trouble: Option<String>,
    /// Where it is in its life, as `live` or `suspect`.
    pub state: &'static str,
    /// How many revisions it is known to lack.
    pub lag: u64,
    /// It has once caught up, and was not found to differ from the authority since.
    pub ready: bool,
    /// The set is staler than policy accepts.
    pub stale: bool,
    /// What it does then: refuses what it does not find revoked.
    pub deny_when_stale: bool,
    /// The staleness accepted.
    pub max_staleness: Duration,
    /// How many sets of earlier epochs stay in force.
    pub residues: usize,
}

impl Status {
    /// Where the node stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch.id, revision: self.revision }
    }
}

impl Hit {
    /// The claim that the hit's cutoff tests.
    #[must_use]
    pub fn tested(&self) -> TestedClaim {
        self.shape.tested()
    }
}

impl Answer {
    /// The answer of a set that is as fresh as can be: the authority's own.
    #[must_use]
    pub fn fresh(finding: Finding, epoch: Epoch, at_least: Option<Position>) -> Self {
        Self::of(finding, epoch, Duration::ZERO, None, at_least)
    }

    /// What a finding means. `stale` is the node's own doubt about its set, if policy lets it count. A hit always says
    /// revoked; a miss only means "not revoked" where there is no doubt. Unknown is refused: policy that accepts a doubt
    /// does not raise it.
    #[must_use]
    pub fn of(
        finding: Finding,
        epoch: Epoch,
        staleness: Duration,
        stale: Option<UnknownCause>,
        at_least: Option<Position>,
    ) -> Self {
        let position = Position { epoch: epoch.id, revision: finding.revision };
        let behind = at_least.is_some_and(|asked| asked.epoch != epoch.id || asked.revision > finding.revision);
        let doubt = stale.or(behind.then_some(UnknownCause::Behind)).or(finding.doubt);
        let verdict = match (finding.hit, doubt) {
            (Some(hit), _) => Verdict::Revoked(hit),
            (None, Some(cause)) => Verdict::Unknown(cause),
            (None, None) => Verdict::NotRevoked,
        };
        let deny = verdict != Verdict::NotRevoked;
        let Finding { beyond_horizon, untimed, .. } = finding;
        Self { verdict, deny, position, staleness, beyond_horizon, untimed }
    }
}
