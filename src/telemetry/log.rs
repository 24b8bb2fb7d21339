//! The log: to standard error, filtered by `RESCIND_LOG`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// The environment variable that says what is logged, as in `rescind=debug`.
const FILTER_VARIABLE: &str = "RESCIND_LOG";
/// The same when unset. h2 warns of each PING answer that nobody asked for, so that anyone who connects could fill the disk;
/// what matters of a connection is logged by its listener, within a limit.
const FILTER: &str = "info,h2=error";

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be understood.
    #[error("{FILTER_VARIABLE} is not a filter such as rescind=debug")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// There is one already.
    #[error("the log is already started")]
    Started(#[from] TryInitError),
}

/// Starts the log of this process.
///
/// # Errors
/// When the filter cannot be understood, or when it was started before.
pub fn start_log(format: LogFormat) -> Result<(), LogError> {
    use tracing_subscriber::util::SubscriberInitExt;
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = if filter.is_empty() { FILTER } else { &filter };
    let filter = EnvFilter::try_new(filter).map_err(LogError::Filter)?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_ansi(false).finish().try_init(),
    }
    .map_err(LogError::Started)
}
