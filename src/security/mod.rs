//! Who is at the far end, what it may do, and the keys that prove it.
//!
//! Knows principals, roles, certificates and credentials; answers questions and handles no request.

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "server")]
pub mod call;
mod certificate;
#[cfg(feature = "server")]
pub mod credential;
#[cfg(feature = "server")]
pub mod principals;
#[cfg(feature = "server")]
mod spending;

pub use certificate::CertificateNames;
