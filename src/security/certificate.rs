//! What a verified client certificate says.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names of whoever holds a client certificate that was verified: its subject alternative names
/// (RFC 5280 §4.2.1.6). The subject itself is not looked at (RFC 9525 §2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// URIs, such as a SPIFFE id.
    pub uris: Vec<String>,
    /// DNS names, in lower case.
    pub dns_names: Vec<String>,
}

impl CertificateNames {
    /// The names in a certificate, which somebody else has verified; none if it cannot be parsed.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Self::default() };
        Self {
            uris: certificate.valid_uri_names().map(str::to_owned).collect(),
            dns_names: certificate.valid_dns_names().map(str::to_ascii_lowercase).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn names_are_the_subjects_alternatives_and_not_its_common_name() {
        let mut params = CertificateParams::new(vec!["Orders.Example".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI("spiffe://example/orders".try_into().unwrap()));
        params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let names = CertificateNames::of(certificate.der());
        assert_eq!(names.uris, ["spiffe://example/orders"]);
        assert_eq!(names.dns_names, ["orders.example"]);
        assert_eq!(CertificateNames::of(&CertificateDer::from(vec![1, 2, 3])), CertificateNames::default());
    }
}
