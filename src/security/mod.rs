//! Who is at the far end, what it may do, and the keys that prove it.
//!
//! Knows principals, roles, certificates and credentials; answers questions and handles no request.

mod certificate;

pub use certificate::CertificateNames;
