//! What is counted and measured. [`Metrics::new`] is the one table of names; `docs/metrics.md` explains each.
//!
//! A check costs one or two relaxed additions: every label set that can occur is created at the start.

use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

type Whole = Gauge<u64, AtomicU64>;
type Real = Gauge<f64, AtomicU64>;
/// What a metric has that is only sometimes there.
type NoLabels = [(&'static str, &'static str); 0];

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    not_revoked: Counter,
    revoked: Counter,
    unknown: [Counter; Cause::ALL.len()],
    writes: [Counter; WriteOutcome::ALL.len()],
    /// Revocations accepted.
    pub revocations: Counter,
    /// Reinstatements accepted.
    pub reinstatements: Counter,
    /// From the arrival of a write to its acknowledgement.
    pub write_seconds: Histogram,
    /// One durable append of the journal.
    pub commit_seconds: Histogram,
    /// Requests per durable append.
    pub commit_requests: Histogram,
    /// Checked tokens without a usable tested time.
    pub untimed_tokens: Counter,
    /// Checked tokens that live longer than entries are kept.
    pub beyond_horizon_tokens: Counter,
    /// The size of the journal on disk.
    pub journal_bytes: Whole,
    /// Connected subscribers.
    pub subscribers: Whole,
    /// Subscribers sent away or cut, by reason.
    sent_away: [Counter; SENT_AWAY.len()],
    /// Open connections on the callers' port.
    pub connections: Whole,
    /// Of them, those that have not proven themselves.
    pub connections_unproven: Whole,
    /// Connections that were not let in, by reason.
    connections_refused: [Counter; CONNECTIONS_REFUSED.len()],
    /// Connections closed for their place or their silence, by reason.
    connections_closed: [Counter; CONNECTIONS_CLOSED.len()],
    /// Requests under way on the callers' port.
    pub requests_under_way: Whole,
    /// Requests refused because there were too many, by class.
    requests_shed: [Counter; REQUEST_CLASSES.len()],
    /// Connections closed for what the far end did.
    pub connections_broken: Counter,
    /// Requests denied, by reason.
    requests_denied: [Counter; REQUESTS_DENIED.len()],
    /// TLS handshakes that failed, by reason.
    handshakes_failed: [Counter; HANDSHAKE_FAILURES.len()],
    /// In how many seconds the server's certificate expires.
    pub tls_certificate_expiry: Real,
    /// Times that files were read again.
    reloads: [Counter; WATCHED.len()],
    /// Times that they could not be used.
    reload_failures: [Counter; WATCHED.len()],
    /// Revisions that subscribers held and the restored backup lacked.
    pub history_lost_revisions: Counter,
    /// Members that are cut off; of the authority only.
    members_cut_off: Family<NoLabels, Whole>,
    /// Live entries.
    pub live_entries: Whole,
    /// The most live entries that policy allows.
    pub max_entries: Whole,
    /// Active shapes.
    pub active_shapes: Whole,
    /// The last revision in force.
    pub position_revision: Whole,
    /// The generation of the epoch.
    pub epoch_generation: Whole,
    /// Revisions that the search index has yet to take in.
    pub index_lag_revisions: Whole,
    /// The age of the last word from the authority.
    pub staleness_seconds: Real,
    /// How long the process has run.
    pub uptime_seconds: Real,
    /// Times an upstream could not be reached, or was lost.
    upstream_failures: Counter,
    /// The same, and connections given up, by reason.
    upstream_breaks: [Counter; UPSTREAM_BREAKS.len()],
    /// Whole sets received.
    snapshots_received: Counter,
    /// Times the set was found to differ from the authority's.
    divergences: Counter,
    /// Checks answered from a set staler than policy accepts.
    served_stale: Counter,
    /// Records and snapshots written to the cache on disk.
    pub cache_writes: Counter,
    /// Times that the cache on disk came to be broken.
    pub cache_failures: Counter,
    /// 1 while nothing is kept in the cache on disk.
    pub cache_broken: Whole,
    /// The size of the cache on disk.
    pub cache_bytes: Whole,
    /// The last revision that a restart would find there.
    pub cache_position_revision: Whole,
    /// 1 while writes are refused.
    pub writes_refused: Whole,
    /// 1 while the clock is in doubt.
    pub clock_alarm: Whole,
}

/// The reasons for which subscribers are sent away.
pub const SENT_AWAY: [&str; 10] = [
    "shutdown",
    "overloaded",
    "protocol",
    "behind_subscriber",
    "stalled",
    "malformed",
    "old_epoch",
    "loop",
    "displaced",
    "denied",
];
/// The reasons for which a TLS handshake fails.
pub const HANDSHAKE_FAILURES: [&str; 5] = ["timed_out", "plaintext", "certificate", "refused", "protocol"];
/// What is read again when its files change.
pub const WATCHED: [&str; 3] = ["tls", "principals", "upstream"];
/// The reasons for which a connection is not let in.
pub const CONNECTIONS_REFUSED: [&str; 3] = ["full", "address", "principal"];
/// The reasons for which a connection is closed.
pub const CONNECTIONS_CLOSED: [&str; 6] = ["unproven", "displaced", "first_request", "idle", "untaken", "certificate"];
/// The classes of requests, the first to be refused first.
pub const REQUEST_CLASSES: [&str; 5] = ["background", "subscription", "write", "check", "vital"];
/// The reasons for which requests are denied.
pub const REQUESTS_DENIED: [&str; 11] = [
    "missing",
    "malformed",
    "unknown",
    "expired",
    "conflict",
    "role",
    "no_such_call",
    "too_many_requests",
    "too_many_writes",
    "member",
    "scope",
];
/// The reasons for which a connection to an upstream ends.
pub const UPSTREAM_BREAKS: [&str; 14] = [
    "unreachable",
    "refused",
    "malformed",
    "unexpected",
    "unsigned",
    "diverged",
    "resync_failed",
    "resync",
    "refresh",
    "over_limit",
    "go_away",
    "moved",
    "no_welcome",
    "silent",
];

/// Why a check could not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named as in the protocol, explained there")]
pub enum Cause {
    NeverSynced,
    Stale,
    Behind,
    Diverged,
    OverLimit,
    Incomplete,
    TooManyCandidates,
    BeyondHorizon,
}

impl Cause {
    const ALL: [Self; 8] = [
        Self::NeverSynced,
        Self::Stale,
        Self::Behind,
        Self::Diverged,
        Self::OverLimit,
        Self::Incomplete,
        Self::TooManyCandidates,
        Self::BeyondHorizon,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NeverSynced => "NEVER_SYNCED",
            Self::Stale => "STALE",
            Self::Behind => "BEHIND",
            Self::Diverged => "DIVERGED",
            Self::OverLimit => "OVER_LIMIT",
            Self::Incomplete => "INCOMPLETE",
            Self::TooManyCandidates => "TOO_MANY_CANDIDATES",
            Self::BeyondHorizon => "BEYOND_HORIZON",
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// Durable and in force.
    Accepted,
    /// A repeat of an accepted request.
    Repeated,
    /// Decided only.
    DryRun,
    /// Wrong.
    Invalid,
    /// Beyond what its caller may write.
    NotPermitted,
    /// Over `max_entries` or the shape limit, or too many waiting.
    OverLimit,
    /// Its request id was used before.
    RequestIdReused,
    /// This node is no authority.
    NotTheAuthority,
    /// The journal does not accept writes.
    Unavailable,
    /// It may or may not have been accepted.
    OutcomeUnknown,
}

impl WriteOutcome {
    const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Repeated,
        Self::DryRun,
        Self::Invalid,
        Self::NotPermitted,
        Self::OverLimit,
        Self::RequestIdReused,
        Self::NotTheAuthority,
        Self::Unavailable,
        Self::OutcomeUnknown,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Repeated => "repeated",
            Self::DryRun => "dry_run",
            Self::Invalid => "invalid",
            Self::NotPermitted => "not_permitted",
            Self::OverLimit => "over_limit",
            Self::RequestIdReused => "request_id_reused",
            Self::NotTheAuthority => "not_the_authority",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckLabels {
    verdict: Name,
    cause: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FilesLabels {
    files: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClassLabels {
    class: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    outcome: Name,
}

/// A label value that is known when the program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.0)
    }
}

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("rescind");
        let r = &mut registry;
        r.register("build", "The build", Info::new([("version", version)]));

        let checks = Family::<CheckLabels, Counter>::default();
        r.register("checks", "Checks by verdict and, if unknown, cause", checks.clone());
        let check =
            |verdict, cause| checks.get_or_create_owned(&CheckLabels { verdict: Name(verdict), cause: Name(cause) });
        let writes = Family::<WriteLabels, Counter>::default();
        r.register("write_requests", "Revoke and reinstate requests by outcome", writes.clone());

        Self {
            not_revoked: check("not_revoked", ""),
            revoked: check("revoked", ""),
            unknown: Cause::ALL.map(|cause| check("unknown", cause.name())),
            writes: WriteOutcome::ALL
                .map(|outcome| writes.get_or_create_owned(&WriteLabels { outcome: Name(outcome.name()) })),
            revocations: counter(r, "revocations", "Revocations accepted"),
            reinstatements: counter(r, "reinstatements", "Reinstatements accepted"),
            write_seconds: seconds(r, "write", "From the arrival of a write to its acknowledgement"),
            commit_seconds: seconds(r, "commit", "One durable append of the journal"),
            commit_requests: histogram(r, "commit_requests", "Requests per durable append"),
            untimed_tokens: counter(r, "untimed_tokens", "Checked tokens without a usable tested time"),
            beyond_horizon_tokens: counter(
                r,
                "beyond_horizon_tokens",
                "Checked tokens that live longer than entries are kept",
            ),
            journal_bytes: with_unit(r, "journal", Unit::Bytes, "The size of the journal on disk"),
            subscribers: gauge(r, "subscribers", "Connected subscribers"),
            sent_away: by_reason(r, "subscribers_sent_away", "Subscribers sent away or cut, by reason", SENT_AWAY),
            connections: gauge(r, "connections", "Open connections on the callers' port"),
            connections_unproven: gauge(r, "connections_unproven", "Open connections that have not proven themselves"),
            connections_refused: by_reason(
                r,
                "connections_refused",
                "Connections that were not let in, by reason",
                CONNECTIONS_REFUSED,
            ),
            connections_closed: by_reason(
                r,
                "connections_closed",
                "Connections closed for their place or their silence, by reason",
                CONNECTIONS_CLOSED,
            ),
            requests_under_way: gauge(r, "requests_under_way", "Requests under way on the callers' port"),
            requests_shed: by_class(r, "requests_shed", "Requests refused because too many were under way, by class"),
            connections_broken: counter(r, "connections_broken", "Connections closed for what the far end did"),
            requests_denied: by_reason(r, "requests_denied", "Requests denied, by reason", REQUESTS_DENIED),
            handshakes_failed: by_reason(
                r,
                "tls_handshake_failures",
                "TLS handshakes on the callers' port that failed, by reason",
                HANDSHAKE_FAILURES,
            ),
            tls_certificate_expiry: with_unit(
                r,
                "tls_certificate_expiry",
                Unit::Seconds,
                "In how long the server's certificate expires",
            ),
            reloads: by_files(r, "reloads", "Times that changed files were read again and are in force"),
            reload_failures: by_files(r, "reload_failures", "Times that changed files could not be used"),
            history_lost_revisions: counter(
                r,
                "history_lost_revisions",
                "Revisions that subscribers held and the restored backup lacked",
            ),
            members_cut_off: family(r, "members_cut_off", "Subscribers that went without a goodbye"),
            live_entries: gauge(r, "live_entries", "Live entries"),
            max_entries: gauge(r, "max_entries", "The most live entries that policy allows"),
            active_shapes: gauge(r, "active_shapes", "Active shapes"),
            position_revision: gauge(r, "position_revision", "The last revision in force"),
            epoch_generation: gauge(r, "epoch_generation", "The generation of the epoch"),
            index_lag_revisions: gauge(r, "index_lag_revisions", "Revisions the search index has yet to take in"),
            staleness_seconds: with_unit(r, "staleness", Unit::Seconds, "The age of the last word from the authority"),
            uptime_seconds: with_unit(r, "uptime", Unit::Seconds, "How long the process has run"),
            upstream_failures: counter(r, "upstream_failures", "Times an upstream could not be reached, or was lost"),
            upstream_breaks: by_reason(
                r,
                "upstream_breaks",
                "Connections to an upstream that ended, or were not made, by reason",
                UPSTREAM_BREAKS,
            ),
            snapshots_received: counter(r, "snapshots_received", "Whole sets received from upstream"),
            divergences: counter(r, "divergences", "Times the set was found to differ from the authority's"),
            served_stale: counter(r, "served_stale_checks", "Checks answered from a set staler than policy accepts"),
            cache_writes: counter(r, "cache_writes", "Records and snapshots written to the cache on disk"),
            cache_failures: counter(r, "cache_failures", "Times that the cache on disk came to be broken"),
            cache_broken: gauge(r, "cache_broken", "1 while nothing is kept in the cache on disk"),
            cache_bytes: with_unit(r, "cache", Unit::Bytes, "The size of the cache on disk"),
            cache_position_revision: gauge(r, "cache_position_revision", "The last revision a restart would find"),
            writes_refused: gauge(r, "writes_refused", "1 while writes are refused"),
            clock_alarm: gauge(r, "clock_alarm", "1 while the clock is in doubt"),
            registry,
        }
    }

    /// Counts a check that found nothing.
    #[inline]
    pub fn count_not_revoked(&self) {
        self.not_revoked.inc();
    }

    /// Counts a check that found a revocation.
    #[inline]
    pub fn count_revoked(&self) {
        self.revoked.inc();
    }

    /// Counts a check that could not tell.
    #[inline]
    pub fn count_unknown(&self, cause: Cause) {
        self.unknown[cause as usize].inc();
    }

    /// Brings over what a replica has counted by itself.
    pub fn set_replica_counts(&self, upstream_failures: u64, snapshots: u64, divergences: u64, served_stale: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        self.upstream_failures.inner().store(upstream_failures, Relaxed);
        self.snapshots_received.inner().store(snapshots, Relaxed);
        self.divergences.inner().store(divergences, Relaxed);
        self.served_stale.inner().store(served_stale, Relaxed);
    }

    /// Brings over whom the surface has sent away, in the order of [`SENT_AWAY`].
    pub fn set_sent_away(&self, counts: [u64; SENT_AWAY.len()]) {
        bring_over(&self.sent_away, counts);
    }

    /// Brings over why requests were denied, in the order of [`REQUESTS_DENIED`].
    pub fn set_requests_denied(&self, counts: [u64; REQUESTS_DENIED.len()]) {
        bring_over(&self.requests_denied, counts);
    }

    /// Brings over why TLS handshakes failed, in the order of [`HANDSHAKE_FAILURES`].
    pub fn set_handshakes_failed(&self, counts: [u64; HANDSHAKE_FAILURES.len()]) {
        bring_over(&self.handshakes_failed, counts);
    }

    /// Brings over how often files were read again and how often they could not be used; `files` is one of [`WATCHED`].
    pub fn set_reloads(&self, files: &str, done: u64, failed: u64) {
        use std::sync::atomic::Ordering::Relaxed;
        if let Some(index) = WATCHED.iter().position(|name| *name == files) {
            self.reloads[index].inner().store(done, Relaxed);
            self.reload_failures[index].inner().store(failed, Relaxed);
        }
    }

    /// Brings over what the surface counts of connections, in the orders of [`CONNECTIONS_REFUSED`] and
    /// [`CONNECTIONS_CLOSED`].
    pub fn set_connections(&self, refused: [u64; CONNECTIONS_REFUSED.len()], closed: [u64; CONNECTIONS_CLOSED.len()]) {
        bring_over(&self.connections_refused, refused);
        bring_over(&self.connections_closed, closed);
    }

    /// Brings over how many requests the surface refused, in the order of [`REQUEST_CLASSES`].
    pub fn set_requests_shed(&self, counts: [u64; REQUEST_CLASSES.len()]) {
        bring_over(&self.requests_shed, counts);
    }

    /// How many members are cut off. Nobody but the authority knows: elsewhere it is not said, and there is no such metric.
    pub fn set_members_cut_off(&self, count: u64) {
        self.members_cut_off.get_or_create(&[]).set(count);
    }

    /// Brings over why a replica's connections ended, in the order of [`UPSTREAM_BREAKS`].
    pub fn set_upstream_breaks(&self, counts: [u64; UPSTREAM_BREAKS.len()]) {
        bring_over(&self.upstream_breaks, counts);
    }

    /// Counts a write and how long its answer took.
    pub fn count_write(&self, outcome: WriteOutcome, took: Duration) {
        self.writes[outcome as usize].inc();
        self.write_seconds.observe(took.as_secs_f64());
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(fmt::Error) => String::new(),
        }
    }
}

/// Counted where it happens, since the start: such a count never falls.
fn bring_over<const N: usize>(counters: &[Counter; N], counts: [u64; N]) {
    for (counter, count) in counters.iter().zip(counts) {
        counter.inner().store(count, std::sync::atomic::Ordering::Relaxed);
    }
}

fn by_reason<const N: usize>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    reasons: [&'static str; N],
) -> [Counter; N] {
    let family = Family::<ReasonLabels, Counter>::default();
    registry.register(name, help, family.clone());
    reasons.map(|reason| family.get_or_create_owned(&ReasonLabels { reason: Name(reason) }))
}

fn by_files(registry: &mut Registry, name: &str, help: &str) -> [Counter; WATCHED.len()] {
    let family = Family::<FilesLabels, Counter>::default();
    registry.register(name, help, family.clone());
    WATCHED.map(|files| family.get_or_create_owned(&FilesLabels { files: Name(files) }))
}

fn by_class(registry: &mut Registry, name: &str, help: &str) -> [Counter; REQUEST_CLASSES.len()] {
    let family = Family::<ClassLabels, Counter>::default();
    registry.register(name, help, family.clone());
    REQUEST_CLASSES.map(|class| family.get_or_create_owned(&ClassLabels { class: Name(class) }))
}

/// A gauge that is there once it is set.
fn family(registry: &mut Registry, name: &str, help: &str) -> Family<NoLabels, Whole> {
    let metric = Family::default();
    registry.register(name, help, Family::clone(&metric));
    metric
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let metric = Counter::default();
    registry.register(name, help, metric.clone());
    metric
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Whole {
    let metric = Whole::default();
    registry.register(name, help, metric.clone());
    metric
}

fn with_unit<M>(registry: &mut Registry, name: &str, unit: Unit, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Default + Clone,
{
    let metric = M::default();
    registry.register_with_unit(name, help, unit, metric.clone());
    metric
}

/// 50 µs to 1.6 s, in factors of two.
fn seconds(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let metric = Histogram::new(exponential_buckets(50e-6, 2.0, 16));
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// 1 to 16,384, in factors of two.
fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let metric = Histogram::new(exponential_buckets(1.0, 2.0, 15));
    registry.register(name, help, metric.clone());
    metric
}

#[cfg(test)]
mod tests;
