//! JSON twins of the calls that tools make, on the same port as gRPC.
//!
//! ```text
//! bytes ──▶ tree (duplicate keys kept) ──▶ decode ──▶ the gRPC message ──▶ the same parser, the same node
//!                                                     the gRPC answer  ──▶ render ──▶ JSON
//! ```
//!
//! snake_case; times are RFC 3339, positions strings, and no 64-bit integer is a JSON number. Errors are problem details
//! (RFC 9457). A revoked token is an answer, hence 200; a verdict of `unknown` is 503 unless configured otherwise, so
//! that a caller who reads only the status does not take it for "not revoked".

pub(crate) mod decode;
mod problem;
mod render;
mod routes;
#[cfg(test)]
mod tests;
mod time;
mod tree;

pub(crate) use problem::{Problem, overloaded};
pub(super) use routes::{Twins, fallback, router};
// The command line speaks the same JSON in its batches and its output.
pub use decode::{DecodeError, revocation};
pub use render::{check, list, reinstate, revoke, status};
pub use time::{Rounding, parse_time, render_millis, render_time};
