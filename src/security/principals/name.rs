//! The one name of a certificate by which a principal is known.

use std::fmt;
use std::str::FromStr;

use crate::security::CertificateNames;

/// The longest SPIFFE id, in bytes (SPIFFE-ID §2.3).
const SPIFFE_BYTES_MAX: usize = 2048;
/// The longest trust domain, in bytes (SPIFFE-ID §2.1).
const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// The longest DNS name, in bytes (RFC 1035 §2.3.4).
const DNS_BYTES_MAX: usize = 253;
/// The longest part of one, in bytes.
const DNS_LABEL_BYTES_MAX: usize = 63;

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// A URI: a SPIFFE id.
    Spiffe(String),
    /// A DNS name, in lower case; compared whole, never as a pattern.
    Dns(String),
}

/// The text is no name that a certificate is known by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateNameError {
    /// Neither of the two forms.
    #[error("certificate: {given:?} is neither spiffe://trust-domain/path nor dns:name")]
    Form {
        /// What was given.
        given: String,
    },
    /// A SPIFFE id of the wrong shape.
    #[error("certificate: {given:?} is no SPIFFE id: {what}")]
    Spiffe {
        /// What was given.
        given: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A DNS name of the wrong shape.
    #[error(
        "certificate: {given:?} is no DNS name: at most {DNS_BYTES_MAX} bytes, parts of 1 to {DNS_LABEL_BYTES_MAX} letters, \
         digits and hyphens, and no wildcard"
    )]
    Dns {
        /// What was given.
        given: String,
    },
}

impl CertificateName {
    /// The names of a verified certificate that a principal may be known by.
    pub fn all(names: &CertificateNames) -> impl Iterator<Item = Self> {
        let uris = names.uris.iter().filter(|uri| uri.starts_with(SCHEME)).cloned().map(Self::Spiffe);
        uris.chain(names.dns_names.iter().map(|name| Self::Dns(name.to_ascii_lowercase())))
    }
}

const SCHEME: &str = "spiffe://";

impl FromStr for CertificateName {
    type Err = CertificateNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(rest) = text.strip_prefix(SCHEME) {
            return match spiffe_fault(text, rest) {
                None => Ok(Self::Spiffe(text.to_owned())),
                Some(what) => Err(CertificateNameError::Spiffe { given: text.to_owned(), what }),
            };
        }
        match text.strip_prefix("dns:") {
            Some(name) if is_dns_name(name) => Ok(Self::Dns(name.to_ascii_lowercase())),
            Some(_) => Err(CertificateNameError::Dns { given: text.to_owned() }),
            None => Err(CertificateNameError::Form { given: text.to_owned() }),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::Dns(name) => write!(f, "dns:{name}"),
        }
    }
}

/// What is wrong with a SPIFFE id, of which `rest` is what follows the scheme.
fn spiffe_fault(text: &str, rest: &str) -> Option<&'static str> {
    if text.len() > SPIFFE_BYTES_MAX {
        return Some("it has more than 2048 bytes");
    }
    let Some((domain, path)) = rest.split_once('/') else { return Some("it has no path") };
    let is_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if domain.is_empty() || domain.len() > TRUST_DOMAIN_BYTES_MAX || !domain.bytes().all(is_domain) {
        return Some("the trust domain has 1 to 255 lower case letters, digits, dots, hyphens and underscores");
    }
    let is_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_segment = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(is_path);
    if !path.split('/').all(is_segment) {
        return Some("the parts of its path hold letters, digits, dots, hyphens and underscores, and are not empty");
    }
    None
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=DNS_LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= DNS_BYTES_MAX && name.split('.').all(is_label)
}
