//! Why no TLS configuration can be made.

use std::path::{Path, PathBuf};

use rustls::InconsistentKeys;

use super::pem::PemError;

/// Why files do not make a TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not as it must be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key is another's.
    #[error(
        "the private key in {} does not belong to the first certificate in {}",
        private_key.display(), certificate.display()
    )]
    KeyMismatch {
        /// Where the chain is.
        certificate: PathBuf,
        /// Where the key is.
        private_key: PathBuf,
    },
    /// The key is of no kind that can be used, or damaged.
    #[error("the private key in {} cannot be used", private_key.display())]
    Key {
        /// Where the key is.
        private_key: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// A certificate cannot be parsed.
    #[error("certificate number {block} in {} cannot be used", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Which certificate, counted from 1.
        block: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// A revocation list cannot be parsed.
    #[error("the revocation lists in {} cannot be used: {why}", path.display())]
    RevocationList {
        /// Which file.
        path: PathBuf,
        /// What is wrong with one.
        why: String,
    },
    /// The system has no certificates of authorities, and no file names any.
    #[error("no authority is trusted: {why}; name a file of their certificates")]
    NoAuthorities {
        /// What was found.
        why: String,
    },
    /// No algorithm is left to agree on.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

/// Whose fault it is that chain and key make no identity.
pub(super) fn of_identity(error: rustls::Error, certificate: &Path, private_key: &Path) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::KeyMismatch { certificate: certificate.to_owned(), private_key: private_key.to_owned() }
        }
        source @ rustls::Error::InvalidCertificate(_) => {
            TlsError::Certificate { path: certificate.to_owned(), block: 1, source }
        }
        source => TlsError::Key { private_key: private_key.to_owned(), source },
    }
}
