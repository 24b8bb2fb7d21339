//! Who is at the far end, what it may do, and the keys that prove it.
//!
//! Knows principals, roles, certificates and credentials; answers questions and handles no request.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod basic;
mod bearer;
#[cfg(feature = "server")]
pub mod call;
mod certificate;
mod client;
#[cfg(feature = "server")]
pub mod credential;
mod file;
mod issuers;
pub(crate) mod log_limit;
#[cfg(feature = "server")]
pub mod principals;
#[cfg(feature = "server")]
mod spending;
#[cfg(test)]
#[path = "../../tests/common/pki.rs"]
pub(crate) mod testing;
pub mod tls;
#[cfg(feature = "server")]
pub mod watch;

pub use bearer::{BEARER_BYTES_MAX, Bearer, BearerError, BearerFileError, BearerSource};
pub use certificate::CertificateNames;
pub use client::{ClientSecurity, ClientSecurityError};
pub use file::{FileError, on_one_line, read_file};
pub use issuers::IssuerDocuments;
