//! Logs and metrics.
//!
//! Counts and writes what it is given; decides nothing. No label value comes from a caller.

mod log;
mod metrics;

pub use log::{LogError, LogFormat, start_log};
pub use metrics::{
    CONNECTIONS_CLOSED, CONNECTIONS_REFUSED, Cause, HANDSHAKE_FAILURES, Metrics, REQUEST_CLASSES, REQUESTS_DENIED,
    SENT_AWAY, UPSTREAM_BREAKS, WATCHED, WriteOutcome,
};
