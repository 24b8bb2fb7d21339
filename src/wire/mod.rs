//! Generated protocol code and its conversions, shared by both ends of the wire.
//!
//! Conversions here only change the form: what a request may hold is decided by whoever parses it, what an answer
//! holds by whoever gave it.

mod answer;
mod credential;
mod dial;
mod export;
mod propagation;
pub mod replication;
mod secret;
mod tls_fault;
pub mod upstream;
mod value;

pub use answer::{
    backup_part, check_response, found_record, page, record, reinstate_response, revoke_response, status_response,
};
pub use credential::{credential_record, grant_message};
pub use dial::{Calls, DialError, Dialler};
pub use export::export_part;
pub use propagation::{propagation, subscriber_page};
// Servers listen where replicas connect.
pub use crate::replica::{SOCKET_PATH_BYTES_MAX, SocketPath, SocketPathError};
pub use value::{FormError, position, position_message, selector_message, tested, tested_message, tested_name};

/// The generated messages and services of `proto/rescind/v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, rustdoc::invalid_html_tags)]
pub mod pb {
    tonic::include_proto!("rescind.v1");
}

/// The protocol's descriptors, encoded: what server reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rescind.v1.descriptors"));
