//! Who comes in: credentials as presented and as kept, and the principals file.

use std::collections::BTreeSet;
use std::path::Path;

use rescind::security::credential::{HashedCredential, Presented};
use rescind::security::principals::{PRINCIPALS_MAX, Principals};

use super::note_accepted;

/// The hash of the secret of [`SECRET`].
pub const HASHED: &str =
    "rsc-sha256:0123456789abcdef:AAAAAAAAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// A credential whose secret is all zeros.
pub const SECRET: &str = "rsc_0123456789abcdef_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub fn credential(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(presented) = text.parse::<Presented>() {
        note_accepted();
        assert_eq!(text.len(), SECRET.len());
        let zeros: HashedCredential = HASHED.parse().expect("it is sound");
        assert!(!presented.secret.agrees(&zeros.hash), "nothing agrees with a digest of zeros");
    }
    match text.parse::<HashedCredential>() {
        Ok(hashed) => {
            note_accepted();
            assert_eq!(hashed.to_string().parse(), Ok(hashed), "it is read as it is shown");
        }
        Err(error) => assert!(text.len() < SECRET.len() || !error.to_string().contains(text), "{error}"),
    }
}

pub fn principals(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let principals = match Principals::parse(text, Path::new("fuzz.toml")) {
        Ok(principals) => principals,
        Err(error) => return assert!(!error.to_string().contains(SECRET), "a secret in the wrong place is told"),
    };
    note_accepted();
    assert!(principals.count() <= PRINCIPALS_MAX);
    let (mut names, mut credentials) = (BTreeSet::new(), BTreeSet::new());
    for listed in principals.iter() {
        assert!(names.insert(&listed.principal.name), "two principals of one name");
        assert!(!listed.principal.name.is_empty() && !listed.principal.name.starts_with("anonymous@"));
        assert!(listed.certificate.is_some() || listed.credential.is_some(), "whoever is listed can be recognised");
        let id = listed.credential.as_ref().map(|credential| credential.id.to_string());
        assert!(id.is_none_or(|id| credentials.insert(id)), "two principals with one credential");
    }
}
