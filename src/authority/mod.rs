//! The sole writer: the one commit path, and what it publishes.
//!
//! ```text
//! Writes ──▶ queue ──▶ commit thread: decide on a Stage ──▶ journal.append ──▶ State::install ──▶ Publish ──▶ answer
//!                          │ rows that changed
//!                          ▼
//!                       Overlay ──▶ snapshot thread: snapshot n + 1 = snapshot n + Overlay
//! ```
//!
//! [`recover`] brings the state back and commits a start record; [`Authority::start`] serves it.
//! Does not know protocols: requests come as [`crate::revocation::ports`] values, subscribers are behind [`Publish`].

pub mod audit;
pub mod backup;
mod commit;
mod credentials;
mod decide;
mod export;
pub(crate) mod ledger;
pub mod lifetimes;
mod lookup;
#[doc(hidden)]
pub mod manual;
pub mod members;
mod objections;
pub mod policies;
mod preview;
pub mod propagation;
mod publish;
mod recovery;
pub(crate) mod requests;
mod serve;
mod shapes;
pub(crate) mod snapshot;
mod stage;
mod state;
mod timekeeper;
mod vitals;

#[cfg(test)]
mod tests;

pub use crate::hub::{Image, Published};
pub use publish::{Commit, Publish};
pub use recovery::{Options, RecoverError, Recovered, recover};
pub use serve::Authority;
