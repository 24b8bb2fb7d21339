//! The composition root: builds a node out of the rooms and shuts it down.

mod agent;
mod authority;
mod descriptors;
mod doorkeeper;
mod followed;
mod front;
mod hardening;
mod issuers;
mod metered;
mod reload;
mod verification;

#[cfg(test)]
mod tests;

pub use agent::{AgentError, agent};
pub use authority::{JournalHistory, ServeError, serve};
pub use doorkeeper::DoorError;
pub use front::{Front, stop_on_signal};
pub use metered::metered;
