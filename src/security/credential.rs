//! API credentials: their text, what is kept of their secret, and whether the two agree.
//!
//! ```text
//! shown once:         rsc_<id, 16 hex digits>_<secret, 43 characters of base64url>
//! in principals files: rsc-sha256:<id>:<salt, 22 characters>:<digest, 43 characters>
//! ```
//!
//! The secret is 32 random bytes, so that one round of SHA-256 keeps it: there is nothing to guess.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::revocation::ports::{CredentialHash, CredentialId};

/// What every credential begins with, so that scanners of source code find those that leaked.
pub(super) const PREFIX: &str = "rsc_";
/// What every line for a principals file begins with.
const HASHED_PREFIX: &str = "rsc-sha256:";
/// Keeps the hash of a credential apart from every other use of SHA-256.
const DOMAIN: &[u8] = b"rescind/credential/1\0";
/// A secret, in bytes.
const SECRET_BYTES: usize = 32;
/// The length of a credential's text, in bytes.
const TEXT_BYTES: usize = PREFIX.len() + ID_CHARS + 1 + 43;
/// The length of an id, in characters. It is no secret.
const ID_CHARS: usize = 16;

/// The secret of a credential. Wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; SECRET_BYTES]);

/// A credential as somebody presents it: which one he says it is, and its secret.
pub struct Presented {
    /// Its id. No proof of anything.
    pub id: CredentialId,
    /// To be compared with what is kept.
    pub secret: Secret,
}

/// A new credential. Its text is not kept anywhere.
pub struct Minted {
    /// Its id.
    pub id: CredentialId,
    /// What its owner presents.
    pub text: Zeroizing<String>,
    /// What is kept.
    pub hash: CredentialHash,
}

/// What a principals file holds of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashedCredential {
    /// Its id.
    pub id: CredentialId,
    /// What is kept of its secret.
    pub hash: CredentialHash,
}

/// The text is no credential. It is not repeated: it may be nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential reads rsc_, 16 hexadecimal digits, _ and 43 characters of base64url")]
pub struct CredentialTextError;

/// The text is no hashed credential. It is not repeated: it may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashedCredentialError {
    /// The secret itself was given.
    #[error(
        "this is a secret, which belongs to its owner only; a principals file holds the line beginning {HASHED_PREFIX}"
    )]
    Secret,
    /// Anything else.
    #[error("expected {HASHED_PREFIX}id:salt:digest, as `rescind credential mint` prints it")]
    Form,
}

/// The same text with credentials hidden, and what is nearly one: for messages that repeat what somebody gave, who may have
/// given it in the wrong place.
#[must_use]
pub fn without_credentials(text: &str) -> Cow<'_, str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(PREFIX) {
        let (before, from) = rest.split_at(at + PREFIX.len());
        let length = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let is_secret = length > ID_CHARS;
        shown.push_str(before);
        shown.push_str(if is_secret { "(hidden)" } else { &from[..length] });
        rest = &from[length..];
    }
    if shown.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(shown + rest) }
}

/// Makes a credential with a random id, secret and salt.
///
/// # Errors
/// When the system has no random bytes.
pub fn mint() -> Result<Minted, getrandom::Error> {
    let mut id = [0; 8];
    let mut salt = [0; 16];
    let mut secret = Secret([0; SECRET_BYTES]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut salt)?;
    getrandom::fill(&mut secret.0)?;
    let id = CredentialId(id);
    let hash = CredentialHash { salt, digest: secret.digest(&salt) };
    let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.0));
    let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES));
    text.push_str(PREFIX);
    text.push_str(&id.to_string());
    text.push('_');
    text.push_str(&encoded);
    Ok(Minted { id, text, hash })
}

impl Secret {
    /// Whether this is the secret that was hashed; takes as long either way.
    #[must_use]
    pub fn agrees(&self, hash: &CredentialHash) -> bool {
        self.digest(&hash.salt).ct_eq(&hash.digest).into()
    }

    fn digest(&self, salt: &[u8; 16]) -> [u8; 32] {
        Sha256::new().chain_update(DOMAIN).chain_update(salt).chain_update(self.0).finalize().into()
    }
}

impl FromStr for Presented {
    type Err = CredentialTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(PREFIX).filter(|_| text.len() == TEXT_BYTES).ok_or(CredentialTextError)?;
        // The secret may hold underscores, the id has none.
        let (id, encoded) = rest.split_once('_').ok_or(CredentialTextError)?;
        let id = id.parse().map_err(|_| CredentialTextError)?;
        let mut secret = Secret([0; SECRET_BYTES]);
        match URL_SAFE_NO_PAD.decode_slice(encoded, &mut secret.0) {
            Ok(SECRET_BYTES) => Ok(Self { id, secret }),
            _ => Err(CredentialTextError),
        }
    }
}

impl FromStr for HashedCredential {
    type Err = HashedCredentialError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with(PREFIX) {
            return Err(HashedCredentialError::Secret);
        }
        let parts = text.strip_prefix(HASHED_PREFIX).map(|rest| rest.split(':').collect::<Vec<_>>());
        let Some([id, salt, digest]) = parts.as_deref() else { return Err(HashedCredentialError::Form) };
        let id = id.parse().map_err(|_| HashedCredentialError::Form)?;
        Ok(Self { id, hash: CredentialHash { salt: bytes(salt)?, digest: bytes(digest)? } })
    }
}

fn bytes<const N: usize>(text: &str) -> Result<[u8; N], HashedCredentialError> {
    let decoded = URL_SAFE_NO_PAD.decode(text).map_err(|_| HashedCredentialError::Form)?;
    decoded.try_into().map_err(|_| HashedCredentialError::Form)
}

impl fmt::Display for HashedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, digest) = (URL_SAFE_NO_PAD.encode(self.hash.salt), URL_SAFE_NO_PAD.encode(self.hash.digest));
        write!(f, "{HASHED_PREFIX}{}:{salt}:{digest}", self.id)
    }
}

impl Minted {
    /// What belongs into a principals file.
    #[must_use]
    pub fn hashed(&self) -> HashedCredential {
        HashedCredential { id: self.id, hash: self.hash }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presented({}, hidden)", self.id)
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Minted({}, hidden)", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_credential_is_accepted_by_what_is_kept_of_it_only() {
        let (minted, other) = (mint().unwrap(), mint().unwrap());
        let presented: Presented = minted.text.parse().unwrap();
        assert_eq!(presented.id, minted.id);
        assert!(presented.secret.agrees(&minted.hash));
        assert!(!presented.secret.agrees(&other.hash));
        let resalted = CredentialHash { salt: other.hash.salt, ..minted.hash };
        assert!(!presented.secret.agrees(&resalted));
    }

    #[test]
    fn the_digest_is_the_one_that_is_documented() {
        let secret = Secret([7; 32]);
        let salt = [9; 16];
        let text = [&b"rescind/credential/1\0"[..], &salt, &[7; 32]].concat();
        assert_eq!(secret.digest(&salt), <[u8; 32]>::from(Sha256::digest(text)));
    }

    #[test]
    fn what_is_kept_survives_a_principals_file() {
        let hashed = mint().unwrap().hashed();
        assert_eq!(hashed.to_string().parse(), Ok(hashed));
        assert_eq!(mint().unwrap().text.parse::<HashedCredential>(), Err(HashedCredentialError::Secret));
        for wrong in ["", "rsc-sha256:", "rsc-sha256:0:a:b", &hashed.to_string()[..60]] {
            assert_eq!(wrong.parse::<HashedCredential>(), Err(HashedCredentialError::Form), "{wrong}");
        }
    }

    #[test]
    fn texts_that_are_nearly_a_credential_are_refused() {
        let text = mint().unwrap().text;
        let damaged = |at: usize, with: &str| format!("{}{with}{}", &text[..at], &text[at + 1..]);
        for wrong in [
            "",
            "rsc_",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{}=", text.as_str()),
            &format!(" {}", text.as_str()),
            &damaged(4, "x"),
            &damaged(20, "-"),
            &damaged(30, "+"),
            &damaged(30, "é"),
        ] {
            assert_eq!(wrong.parse::<Presented>().unwrap_err(), CredentialTextError, "{wrong}");
        }
    }

    #[test]
    fn a_message_keeps_all_but_the_credentials_in_it() {
        let (one, other) = (mint().unwrap().text, mint().unwrap().text);
        let (one, other) = (one.as_str(), other.as_str());
        for (text, shown) in [
            (format!("cannot read {one}: no file"), "cannot read rsc_(hidden): no file"),
            (format!("'{one}'{other}\n"), "'rsc_(hidden)'rsc_(hidden)\n"),
            (format!("Bearer {}", &one[..40]), "Bearer rsc_(hidden)"),
            (format!("{one}é"), "rsc_(hidden)é"),
            ("beginning rsc_, or rsc_…".to_owned(), "beginning rsc_, or rsc_…"),
            ("rsc-sha256:0:a:b".to_owned(), "rsc-sha256:0:a:b"),
        ] {
            assert_eq!(without_credentials(&text), shown);
        }
    }

    #[test]
    fn secrets_are_hidden_from_debug() {
        let minted = mint().unwrap();
        let presented: Presented = minted.text.parse().unwrap();
        let secret = &minted.text[TEXT_BYTES - 43..];
        for shown in [format!("{minted:?}"), format!("{presented:?}"), format!("{:?}", minted.hashed())] {
            assert!(shown.contains("hidden") && !shown.contains(secret), "{shown}");
        }
    }
}
