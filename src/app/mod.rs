//! The composition root: builds a node out of the rooms and shuts it down.

mod front;
mod metered;

#[cfg(test)]
mod tests;

pub use front::{Front, stop_on_signal};
pub use metered::metered;

use crate::config::ServerConfig;

/// Runs a server until it is told to stop.
///
/// # Errors
/// When something cannot be opened or bound.
pub async fn serve(config: ServerConfig) -> anyhow::Result<()> {
    let front = Front::bind(&config).await?;
    drop(front);
    anyhow::bail!("there is no journal in {} yet", config.data_dir.display())
}
