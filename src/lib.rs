//! Rescind takes tokens back before they expire.

pub mod revocation;
pub mod token;

#[cfg(feature = "client")]
pub mod clock;

pub mod replication;

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod replica;
#[cfg(feature = "client")]
pub mod security;
#[cfg(feature = "client")]
pub mod wire;

#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod authority;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "server")]
pub mod hub;
#[cfg(feature = "server")]
pub mod journal;
#[cfg(feature = "server")]
pub mod relay;
#[cfg(feature = "server")]
pub mod surface;
#[cfg(feature = "server")]
pub mod telemetry;
