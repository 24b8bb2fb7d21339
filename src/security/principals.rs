//! The principals file: who may do what, by certificate or by credential.
//!
//! ```toml
//! [[principal]]
//! name = "checkout"
//! certificate = "spiffe://example.org/checkout"
//! credential = "rsc-sha256:…"
//! roles = ["check", "subscribe"]
//! ```
//!
//! Beside them stand issuers whose tokens make others principals (`[[jwt]]`, in `jwt.rs`).
//!
//! Only parses: who a caller is, `access.rs` decides. Every error names the file, the line and the limit; unknown keys are
//! refused, so that a misspelt bound is not a missing one.

mod jwt;
mod name;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::Spanned;

pub use jwt::{JWT_PREFIX, TokenIssuer, TokenIssuers};
pub use name::{CertificateName, CertificateNameError};

use super::credential::HashedCredential;
use crate::revocation::Grant;
use crate::revocation::grant::{GRANT_NAMES_MAX, Role, Roles};
use crate::revocation::ports::{CREDENTIAL_NAME_BYTES_MAX, CredentialId};
use crate::revocation::verification::Issuer;

/// The most principals in a file.
pub const PRINCIPALS_MAX: usize = 10_000;
/// The largest principals file, in bytes: the most principals, at 800 bytes each.
pub const PRINCIPALS_BYTES_MAX: u64 = 8 << 20;
/// The longest issuer in a grant, in bytes: as long as a claim's value.
const ISSUER_BYTES_MAX: usize = 1024;
/// The longest claim name in a grant, in bytes: as in selectors.
const CLAIM_BYTES_MAX: usize = 128;
/// The most writes in a minute that can be granted.
const WRITES_PER_MINUTE_MAX: u32 = 100_000_000;
/// The names of those who were never asked who they are.
const ANONYMOUS: &str = "anonymous@";

/// Somebody who is known, and what he may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// His name in the audit trail.
    pub name: String,
    /// What he may do.
    pub grant: Arc<Grant>,
}

/// A principal of a file, and how he proves to be it: by one of the two at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Who.
    pub principal: Arc<Principal>,
    /// By a certificate with this name.
    pub certificate: Option<CertificateName>,
    /// By this credential.
    pub credential: Option<HashedCredential>,
}

/// All principals of a file: no two share a name, a certificate or a credential.
#[derive(Debug)]
pub struct Principals {
    listed: Vec<Listed>,
    tokens: TokenIssuers,
}

/// Why there are no principals.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalsError {
    /// The file cannot be read.
    #[error("cannot read the principals file {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large.
    #[error("the principals file {} has more than {PRINCIPALS_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Whoever has an account on this machine could make himself a principal.
    #[error("the principals file {} can be written by everybody on this machine (mode {mode:o}); make it 0640", path.display())]
    Writable {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file says something that it cannot.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, field, and what was expected.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    principal: Vec<Spanned<Entry>>,
    #[serde(default)]
    jwt: Vec<Spanned<jwt::Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Name,
    certificate: Option<Parsed<CertificateName>>,
    credential: Option<Parsed<HashedCredential>>,
    roles: RoleList,
    issuers: Option<Names<ISSUER_BYTES_MAX>>,
    claims: Option<Names<CLAIM_BYTES_MAX>>,
    writes_per_minute: Option<Writes>,
}

impl Principals {
    /// Reads and parses a file.
    ///
    /// # Errors
    /// When it cannot be read, everybody can write it, or it says something that it cannot.
    pub fn read(path: &Path) -> Result<Self, PrincipalsError> {
        Self::parse(&text(path)?, path)
    }

    /// Parses the text of a file; `path` is for errors.
    ///
    /// # Errors
    /// When it says something that it cannot.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PrincipalsError> {
        let invalid = |message: String| PrincipalsError::Invalid { path: path.to_owned(), message };
        // The first line only: below it the parser shows the line itself, which may hold a secret in the wrong place.
        let file: File = toml::from_str(text).map_err(|error| invalid(described(text, &error)))?;
        let given = file.principal.len();
        if given > PRINCIPALS_MAX {
            return Err(invalid(format!("at most {PRINCIPALS_MAX} principals, {given} given")));
        }
        let mut book = Book::default();
        let newlines: Vec<usize> = text.bytes().enumerate().filter_map(|(at, b)| (b == b'\n').then_some(at)).collect();
        for entry in file.principal {
            let line = newlines.partition_point(|at| *at < entry.span().start) + 1;
            book.add(entry.into_inner(), line).map_err(|message| invalid(format!("line {line}: {message}")))?;
        }
        let mut issuers: Vec<(TokenIssuer, Issuer)> = Vec::new();
        for entry in file.jwt {
            let line = newlines.partition_point(|at| *at < entry.span().start) + 1;
            let issuer = entry.into_inner().check().map_err(|message| invalid(format!("line {line}: {message}")))?;
            let is_known =
                |(known, _): &(TokenIssuer, Issuer)| known.iss == issuer.0.iss || known.name == issuer.0.name;
            if issuers.iter().any(is_known) {
                return Err(invalid(format!("line {line}: another [[jwt]] has this name or issuer already")));
            }
            issuers.push(issuer);
        }
        let tokens = TokenIssuers::new(issuers).map_err(|error| invalid(format!("jwt: {error}")))?;
        Ok(Self { listed: book.listed, tokens })
    }

    /// All that are named, as the file has them.
    pub fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.listed.iter()
    }

    /// How many are named.
    #[must_use]
    pub fn count(&self) -> usize {
        self.listed.len()
    }

    /// Whose tokens make others principals.
    #[must_use]
    pub fn into_tokens(self) -> TokenIssuers {
        self.tokens
    }
}

/// What was read so far, and whose it is.
#[derive(Default)]
struct Book {
    listed: Vec<Listed>,
    lines: BTreeMap<String, usize>,
    certificates: BTreeMap<String, String>,
    credentials: BTreeMap<CredentialId, String>,
}

impl Book {
    fn add(&mut self, entry: Entry, line: usize) -> Result<(), String> {
        let name = entry.name.0;
        if let Some(before) = self.lines.insert(name.clone(), line) {
            return Err(format!("name: {name:?} is the principal of line {before} already"));
        }
        let (certificate, credential) =
            (entry.certificate.map(|parsed| parsed.0), entry.credential.map(|parsed| parsed.0));
        if certificate.is_none() && credential.is_none() {
            return Err(format!("{name:?} needs a certificate or a credential: nobody could prove to be it"));
        }
        let grant = granted(entry.roles, entry.issuers, entry.claims, entry.writes_per_minute, &name)?;
        let taken = certificate.as_ref().and_then(|it| self.certificates.insert(it.to_string(), name.clone()));
        if let Some(before) = taken {
            return Err(format!("certificate: is that of {before:?} already"));
        }
        let taken = credential.as_ref().and_then(|it| self.credentials.insert(it.id, name.clone()));
        if let Some(before) = taken {
            return Err(format!("credential: is that of {before:?} already"));
        }
        let principal = Arc::new(Principal { name, grant: Arc::new(grant) });
        self.listed.push(Listed { principal, certificate, credential });
        Ok(())
    }
}

/// What an entry comes to; bounds are those of the role that writes.
fn granted(
    roles: RoleList,
    issuers: Option<Names<ISSUER_BYTES_MAX>>,
    claims: Option<Names<CLAIM_BYTES_MAX>>,
    writes_per_minute: Option<Writes>,
    name: &str,
) -> Result<Grant, String> {
    let roles = roles.0;
    let bounded = [
        ("issuers", issuers.is_some()),
        ("claims", claims.is_some()),
        ("writes_per_minute", writes_per_minute.is_some()),
    ];
    if let Some((field, _)) = bounded.iter().find(|(_, is_given)| *is_given && !roles.allow(Role::Revoke)) {
        return Err(format!("{field}: bounds the role revoke, which {name:?} does not have"));
    }
    Ok(Grant {
        roles,
        issuers: issuers.map(|names| names.0),
        claims: claims.map(|names| names.0),
        writes_per_minute: writes_per_minute.map(|writes| writes.0),
    })
}

/// The text of a principals file, within its limit.
fn text(path: &Path) -> Result<String, PrincipalsError> {
    use std::io::Read as _;
    let unreadable = |source| PrincipalsError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o002 != 0 {
        return Err(PrincipalsError::Writable { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(PRINCIPALS_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > PRINCIPALS_BYTES_MAX {
        return Err(PrincipalsError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Where and what, without the line itself.
fn described(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim_end();
    match error.span() {
        Some(span) => format!("line {}: {message}", line_of(text, span.start)),
        None => message.to_owned(),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if !(1..=CREDENTIAL_NAME_BYTES_MAX).contains(&name.len()) || name.contains(char::is_control) {
            return Err(D::Error::custom(format_args!(
                "name: 1 to {CREDENTIAL_NAME_BYTES_MAX} bytes and no control characters, {} bytes given",
                name.len()
            )));
        }
        if name.starts_with(JWT_PREFIX) {
            return Err(D::Error::custom(format_args!(
                "name: begins with {JWT_PREFIX}, as only those known by a token are called"
            )));
        }
        if name.starts_with(ANONYMOUS) {
            return Err(D::Error::custom(format_args!(
                "name: begins with {ANONYMOUS}, as only the unknown are called"
            )));
        }
        Ok(Self(name))
    }
}

struct Parsed<T>(T);

impl<'de, T: std::str::FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

struct RoleList(Roles);

impl<'de> Deserialize<'de> for RoleList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        if names.is_empty() {
            return Err(D::Error::custom("roles: at least one"));
        }
        let roles: Result<Roles, _> = names.iter().map(|name| name.parse::<Role>()).collect();
        roles.map(Self).map_err(|error| D::Error::custom(format_args!("roles: {error}")))
    }
}

/// Names in a grant, each once.
struct Names<const BYTES_MAX: usize>(Vec<String>);

impl<'de, const BYTES_MAX: usize> Deserialize<'de> for Names<BYTES_MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        let given = names.len();
        if !(1..=GRANT_NAMES_MAX).contains(&given) {
            return Err(D::Error::custom(format_args!("1 to {GRANT_NAMES_MAX}, {given} given")));
        }
        if let Some(name) = names.iter().find(|name| !(1..=BYTES_MAX).contains(&name.len())) {
            return Err(D::Error::custom(format_args!("1 to {BYTES_MAX} bytes each, {} given", name.len())));
        }
        if names.iter().collect::<BTreeSet<_>>().len() != given {
            return Err(D::Error::custom("one is given twice"));
        }
        Ok(Self(names))
    }
}

struct Writes(u32);

impl<'de> Deserialize<'de> for Writes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u32::try_from(number) {
            Ok(number @ 1..=WRITES_PER_MINUTE_MAX) => Ok(Self(number)),
            _ => Err(D::Error::custom(format_args!("writes_per_minute: 1 to {WRITES_PER_MINUTE_MAX}, {number} given"))),
        }
    }
}
