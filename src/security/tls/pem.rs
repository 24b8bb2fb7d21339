//! PEM files (RFC 7468) and what is taken from them: certificates, private keys, revocation lists.
//!
//! A file may hold several blocks of several kinds; those of other kinds are passed over. Of private keys the first
//! counts. No key is ever part of an error or of a `Debug` form.

use std::path::{Path, PathBuf};

#[cfg(feature = "server")]
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::{Error, PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::{Zeroize as _, Zeroizing};

use crate::security::file::{FileError, read_file};

/// The largest file of certificates or keys, in bytes: all public authorities together take a quarter.
pub const PEM_BYTES_MAX: u64 = 1 << 20;
/// The largest file of revocation lists, in bytes: some 200,000 revoked certificates.
pub const CRL_BYTES_MAX: u64 = 16 << 20;
/// The longest label that an error repeats, in bytes: anything longer is no label.
const LABEL_BYTES_MAX: usize = 32;
/// The most labels that an error repeats.
const LABELS_MAX: usize = 4;

/// Why nothing is taken from a PEM file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no block of the kind wanted.
    #[error("{} holds no {wanted} in PEM form; {found}", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        wanted: Wanted,
        /// What is there instead.
        found: String,
    },
    /// The key cannot be used without a password.
    #[error("the private key in {} is encrypted; it is read at every start and change, so it must not be", path.display())]
    Encrypted {
        /// Which file.
        path: PathBuf,
    },
    /// A block is damaged.
    #[error("the PEM block number {block} in {} is malformed: {why}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which block, counted from 1.
        block: usize,
        /// In what way.
        why: &'static str,
    },
}

/// What is looked for in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `CERTIFICATE`.
    Certificate,
    /// `PRIVATE KEY` (PKCS #8), `RSA PRIVATE KEY` (PKCS #1) or `EC PRIVATE KEY` (SEC 1).
    PrivateKey,
    /// `X509 CRL`.
    RevocationList,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate (CERTIFICATE)",
            Self::PrivateKey => "private key (PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY)",
            Self::RevocationList => "revocation list (X509 CRL)",
        })
    }
}

/// All certificates of a file, in order; at least one.
///
/// # Errors
/// When the file cannot be read, holds none, or holds a damaged block.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let bytes = read_file(path, PEM_BYTES_MAX)?;
    let mut found = Vec::new();
    for block in Blocks::of(path, &bytes) {
        let (kind, der) = block?;
        if kind == SectionKind::Certificate {
            found.push(CertificateDer::from(der.to_vec()));
        }
    }
    if found.is_empty() { Err(missing(path, Wanted::Certificate, &bytes)) } else { Ok(found) }
}

/// The first private key of a file.
///
/// # Errors
/// When the file cannot be read, holds none, holds an encrypted one, or holds a damaged block before it.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let bytes = read_file(path, PEM_BYTES_MAX)?;
    for block in Blocks::of(path, &bytes) {
        let (kind, mut der) = block?;
        let key = PrivateKeyDer::from_pem(kind, std::mem::take(&mut *der));
        if let Some(key) = key {
            return Ok(key);
        }
    }
    match labels(&bytes).any(|label| label == "ENCRYPTED PRIVATE KEY") {
        true => Err(PemError::Encrypted { path: path.to_owned() }),
        false => Err(missing(path, Wanted::PrivateKey, &bytes)),
    }
}

/// All revocation lists of a file; at least one.
///
/// # Errors
/// When the file cannot be read, holds none, or holds a damaged block.
#[cfg(feature = "server")]
pub fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let bytes = read_file(path, CRL_BYTES_MAX)?;
    let mut found = Vec::new();
    for block in Blocks::of(path, &bytes) {
        let (kind, der) = block?;
        if kind == SectionKind::Crl {
            found.push(CertificateRevocationListDer::from(der.to_vec()));
        }
    }
    if found.is_empty() { Err(missing(path, Wanted::RevocationList, &bytes)) } else { Ok(found) }
}

/// The blocks of known kinds, each wiped once dropped.
struct Blocks<'a> {
    path: &'a Path,
    rest: rustls::pki_types::pem::SliceIter<'a, Section>,
    taken: usize,
}

type Section = (SectionKind, Vec<u8>);

impl<'a> Blocks<'a> {
    fn of(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, rest: rustls::pki_types::pem::SliceIter::new(bytes), taken: 0 }
    }
}

impl Iterator for Blocks<'_> {
    type Item = Result<(SectionKind, Zeroizing<Vec<u8>>), PemError>;

    fn next(&mut self) -> Option<Self::Item> {
        let section = self.rest.next()?;
        self.taken += 1;
        Some(section.map(|(kind, der)| (kind, Zeroizing::new(der))).map_err(|error| PemError::Malformed {
            path: self.path.to_owned(),
            block: self.taken,
            why: why(error),
        }))
    }
}

/// In what way a block is damaged. The parser's own words may repeat a line of the file, which may be a part of a key.
fn why(error: Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { mut end_marker } => {
            end_marker.zeroize();
            "its END line is missing"
        }
        Error::IllegalSectionStart { mut line } => {
            line.zeroize();
            "its BEGIN line does not end in five dashes"
        }
        Error::Base64Decode(_) => "it is not base64",
        Error::SectionTooLarge => "it is too large",
        _ => "it cannot be read",
    }
}

fn missing(path: &Path, wanted: Wanted, bytes: &[u8]) -> PemError {
    let labels: Vec<&str> = labels(bytes).take(LABELS_MAX).collect();
    let found =
        if labels.is_empty() { "it holds no PEM block".to_owned() } else { format!("it holds {}", labels.join(", ")) };
    PemError::Missing { path: path.to_owned(), wanted, found }
}

/// The labels of all blocks, known or not.
fn labels(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let label = std::str::from_utf8(line.strip_prefix(b"-----BEGIN ")?).ok()?.trim_end().strip_suffix("-----")?;
        let is_label = label.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        (is_label && label.len() <= LABEL_BYTES_MAX).then_some(label)
    })
}

#[cfg(test)]
mod tests;
