//! The agent's node.

use crate::config::AgentConfig;

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// This build has none.
    #[error("this build has no agent yet")]
    Missing,
}

/// Runs an agent until it is told to stop.
///
/// # Errors
/// Always: there is none yet.
pub async fn agent(_config: AgentConfig) -> Result<(), AgentError> {
    Err(AgentError::Missing)
}
