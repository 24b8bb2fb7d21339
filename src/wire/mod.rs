//! Generated protocol code and its conversions. Nothing generated leaves this module.

/// The generated messages and services of `proto/rescind/v1`.
#[allow(missing_docs, clippy::all, unreachable_pub, clippy::unwrap_used)]
pub mod pb {
    tonic::include_proto!("rescind.v1");
}

pub mod replication;
