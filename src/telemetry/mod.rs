//! Logs and metrics.
//!
//! Counts and writes what it is given; decides nothing. No label value comes from a caller.

mod log;
mod metrics;
mod names;

pub use log::{LogError, LogFormat, start_log};
pub use metrics::{Cause, Metrics, WriteOutcome};
pub use names::{
    CONNECTIONS_CLOSED, CONNECTIONS_REFUSED, DECISIONS_DENIED, DECISIONS_UNCLEAR, HANDSHAKE_FAILURES, REQUEST_CLASSES,
    REQUESTS_DENIED, SENT_AWAY, UPSTREAM_BREAKS, WATCHED,
};
