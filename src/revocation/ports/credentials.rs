//! API credentials: what is kept of them, and who keeps them.

use std::fmt;
use std::str::FromStr;

use super::{Caller, Pending, WriteError};
use crate::revocation::Grant;
use crate::revocation::{Position, UnixMillis, UnixSeconds};

/// The longest name of a credential, in bytes.
pub const CREDENTIAL_NAME_BYTES_MAX: usize = 128;
/// The most credentials that are neither expired nor revoked.
pub const CREDENTIALS_MAX: usize = 10_000;

/// Names a credential; no secret. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(pub [u8; 8]);

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// The text is no id of a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of a credential has 16 hexadecimal digits")]
pub struct CredentialIdError;

impl FromStr for CredentialId {
    type Err = CredentialIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| is_hex).ok_or(CredentialIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// What is kept of a credential's secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CredentialHash {
    /// Random, its own for each credential.
    pub salt: [u8; 16],
    /// The SHA-256 of salt and secret.
    pub digest: [u8; 32],
}

/// Hidden: it is good for guessing.
impl fmt::Debug for CredentialHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialHash(hidden)")
    }
}

/// A credential, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its name towards the server.
    pub id: CredentialId,
    /// Whose it is: the principal in the audit trail. Several credentials may share it, so that one can replace another.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// Its secret, hashed.
    pub hash: CredentialHash,
    /// No longer accepted from then on; `None`: until it is revoked.
    pub expires_at: Option<UnixSeconds>,
    /// The authority's wall clock when it was created.
    pub created_at: UnixMillis,
    /// By whom.
    pub created_by: String,
}

/// Why a credential was not created or revoked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is none of this id.
    #[error("there is no such credential, or it was revoked before")]
    NotFound,
    /// There are too many.
    #[error("at most {CREDENTIALS_MAX} credentials are kept; revoke some")]
    TooMany,
    /// It was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Keeps API credentials, as durably as revocations.
pub trait Credentials: Send + Sync {
    /// The credential of this id, unless it was revoked; the caller compares its hash and looks at its expiry.
    fn find(&self, id: CredentialId) -> Option<Credential>;
    /// A number that rises whenever a credential comes or goes, before that is answered: what is found after it was read is
    /// true until it rises.
    fn changes(&self) -> u64;
    /// All that were not revoked, by name and id.
    fn list(&self) -> Vec<Credential>;
    /// Keeps a new one.
    fn create(&self, caller: Caller, credential: Credential) -> Pending<'_, Result<Position, CredentialError>>;
    /// Revokes one: from the answer on it is refused.
    fn revoke(&self, caller: Caller, id: CredentialId) -> Pending<'_, Result<Position, CredentialError>>;
}
