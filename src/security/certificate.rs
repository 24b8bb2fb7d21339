//! What a verified client certificate says.

/// The names of whoever holds a client certificate that was verified: its subject alternative names
/// (RFC 5280 §4.2.1.6). The subject itself is not looked at (RFC 9525 §2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// URIs, such as a SPIFFE id.
    pub uris: Vec<String>,
    /// DNS names, in lower case.
    pub dns_names: Vec<String>,
}
