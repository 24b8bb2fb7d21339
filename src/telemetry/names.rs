//! The values that labels can have, in the order in which their counts come.

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
/// The reasons for which a token is not accepted.
pub const DECISIONS_DENIED: [&str; 18] = [
    "missing",
    "unreadable",
    "revoked",
    "malformed",
    "not_signed",
    "member",
    "extended",
    "nested",
    "issuer",
    "algorithm",
    "type",
    "unknown_key",
    "signature",
    "expired",
    "not_yet",
    "audience",
    "claim",
    "scope",
];
/// The reasons for which it cannot be told whether a token is good.
pub const DECISIONS_UNCLEAR: [&str; 11] = [
    "NO_POLICY",
    "NO_SUCH_CLASS",
    "NO_KEYS",
    "NEVER_SYNCED",
    "STALE",
    "BEHIND",
    "DIVERGED",
    "OVER_LIMIT",
    "INCOMPLETE",
    "TOO_MANY_CANDIDATES",
    "BEYOND_HORIZON",
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
pub const REQUESTS_DENIED: [&str; 12] = [
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
    "unclear",
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
