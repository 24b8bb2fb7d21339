//! What a policy must keep to.

use super::{
    CLASS_NAME_BYTES_MAX, CLASSES_MAX, INLINE_KEYS_BYTES_MAX, ISSUERS_MAX, Issuer, KeySource, LEEWAY_SECONDS_MAX,
    NAMES_MAX, REQUIRED_CLAIMS_MAX, REQUIRED_VALUES_MAX, RouteClass, TEXT_BYTES_MAX, VERIFICATION_BYTES_MAX,
    VerificationPolicy,
};
use crate::revocation::{NAME_BYTES_MAX, VALUE_BYTES_MAX};

/// Claims that have fields of their own.
const FIELDS: [&str; 7] = ["iss", "aud", "exp", "nbf", "iat", "scope", "scp"];

/// Why a policy is refused. `at` names the field: `issuers[1].audiences`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// There are too many.
    #[error("{at}: at most {limit}, {given} given")]
    TooMany {
        /// The field.
        at: String,
        /// How many there may be.
        limit: usize,
        /// How many there are.
        given: usize,
    },
    /// There is none, and one is needed.
    #[error("{at}: at least one")]
    Missing {
        /// The field.
        at: String,
    },
    /// A text is empty or too long.
    #[error("{at}: 1 to {limit} bytes, {given} given")]
    Length {
        /// The field.
        at: String,
        /// The longest there may be, in bytes.
        limit: usize,
        /// How long it is, in bytes.
        given: usize,
    },
    /// One is given twice.
    #[error("{at}: is there twice")]
    Twice {
        /// The field.
        at: String,
    },
    /// Something that cannot be.
    #[error("{at}: {problem}")]
    Invalid {
        /// The field.
        at: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// All of it is too long.
    #[error("the policy has more than {VERIFICATION_BYTES_MAX} bytes")]
    TooLong,
}

type Checked = Result<(), VerificationError>;

/// Each issuer and class, in the order in which they were written: that is where an error says that it stands.
pub(super) fn validate_each(issuers: &[Issuer], classes: &[RouteClass]) -> Checked {
    count("issuers", issuers.len(), ISSUERS_MAX)?;
    count("classes", classes.len(), CLASSES_MAX)?;
    for (index, issuer) in issuers.iter().enumerate() {
        validate_issuer(issuer, &format!("issuers[{index}]"))?;
    }
    for (index, class) in classes.iter().enumerate() {
        validate_class(class, issuers, &format!("classes[{index}]"))?;
    }
    Ok(())
}

/// What can be told once all is sorted.
pub(super) fn validate_whole(policy: &VerificationPolicy) -> Checked {
    unique("issuers", policy.issuers.iter().map(|issuer| issuer.iss.as_str()))?;
    unique("classes", policy.classes.iter().map(|class| class.name.as_str()))?;
    if policy.encode().len() > VERIFICATION_BYTES_MAX { Err(VerificationError::TooLong) } else { Ok(()) }
}

fn validate_issuer(issuer: &Issuer, at: &str) -> Checked {
    text(format!("{at}.iss"), &issuer.iss, TEXT_BYTES_MAX)?;
    names(&format!("{at}.audiences"), &issuer.audiences)?;
    some(&format!("{at}.audiences"), issuer.audiences.len())?;
    some(&format!("{at}.algorithms"), issuer.algorithms.len())?;
    unique(&format!("{at}.algorithms"), issuer.algorithms.iter())?;
    some(&format!("{at}.types"), issuer.types.len())?;
    unique(&format!("{at}.types"), issuer.types.iter())?;
    if issuer.leeway_seconds > LEEWAY_SECONDS_MAX {
        return invalid(format!("{at}.leeway"), "at most 300 seconds");
    }
    let keys = format!("{at}.keys");
    match &issuer.keys {
        KeySource::Discovery => url(format!("{at}.iss"), &issuer.iss),
        KeySource::Url(text) => url(keys, text),
        KeySource::File(path) => {
            text_of(&keys, path, TEXT_BYTES_MAX)?;
            if path.starts_with('/') { Ok(()) } else { invalid(keys, "a file is named by its absolute path") }
        }
        KeySource::Inline(set) => text_of(&keys, set, INLINE_KEYS_BYTES_MAX),
    }
}

fn validate_class(class: &RouteClass, issuers: &[Issuer], at: &str) -> Checked {
    let name = format!("{at}.name");
    text_of(&name, &class.name, CLASS_NAME_BYTES_MAX)?;
    if !class.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        return invalid(name, "ASCII letters, digits, '-', '_' and '.' only");
    }
    for (field, list) in [("issuers", &class.issuers), ("audiences", &class.audiences), ("scopes", &class.scopes)] {
        names(&format!("{at}.{field}"), list)?;
    }
    if class.issuers.iter().any(|iss| issuers.iter().all(|issuer| issuer.iss != *iss)) {
        return invalid(format!("{at}.issuers"), "names an issuer that the policy does not have");
    }
    // RFC 6749 §3.3: a space would make two of it.
    if class.scopes.iter().any(|scope| !scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))) {
        return invalid(format!("{at}.scopes"), "printable ASCII without space, '\"' and '\\'");
    }
    let claims = format!("{at}.claims");
    count(&claims, class.claims.len(), REQUIRED_CLAIMS_MAX)?;
    unique(&claims, class.claims.iter().map(|claim| claim.name.as_str()))?;
    for claim in &class.claims {
        text_of(&claims, &claim.name, NAME_BYTES_MAX)?;
        if FIELDS.contains(&claim.name.as_str()) {
            return invalid(claims, "iss, aud, scope and times have rules of their own");
        }
        count(&claims, claim.values.len(), REQUIRED_VALUES_MAX)?;
        claim.values.iter().try_for_each(|value| text_of(&claims, value, VALUE_BYTES_MAX))?;
        unique(&claims, claim.values.iter())?;
    }
    Ok(())
}

/// Whether keys may be fetched from this URL: `https`, or `http` to this machine, without user and fragment. Keys that came in
/// clear are anybody's.
#[must_use]
pub fn is_key_url(url: &str) -> bool {
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains(['@', '#']);
    let authority = |scheme: &str| url.strip_prefix(scheme).map(|rest| rest.split(['/', '?']).next().unwrap_or(rest));
    let is_secure = authority("https://").is_some_and(|host| !host.is_empty());
    let is_here = authority("http://").is_some_and(|host| {
        let port = ["localhost", "127.0.0.1", "[::1]"].into_iter().find_map(|name| host.strip_prefix(name));
        port.is_some_and(|port| port.is_empty() || port.starts_with(':'))
    });
    is_plain && (is_secure || is_here) && url.len() <= TEXT_BYTES_MAX
}

fn url(at: String, url: &str) -> Checked {
    text_of(&at, url, TEXT_BYTES_MAX)?;
    if is_key_url(url) {
        return Ok(());
    }
    invalid(at, "an https URL without user and fragment; http only to this machine")
}

fn names(at: &str, names: &[String]) -> Checked {
    count(at, names.len(), NAMES_MAX)?;
    names.iter().try_for_each(|name| text_of(at, name, TEXT_BYTES_MAX))?;
    unique(at, names.iter())
}

fn count(at: &str, given: usize, limit: usize) -> Checked {
    if given > limit { Err(VerificationError::TooMany { at: at.to_owned(), limit, given }) } else { Ok(()) }
}

fn some(at: &str, given: usize) -> Checked {
    if given == 0 { Err(VerificationError::Missing { at: at.to_owned() }) } else { Ok(()) }
}

fn text_of(at: &str, value: &str, limit: usize) -> Checked {
    text(at.to_owned(), value, limit)
}

fn text(at: String, value: &str, limit: usize) -> Checked {
    if (1..=limit).contains(&value.len()) {
        Ok(())
    } else {
        Err(VerificationError::Length { at, limit, given: value.len() })
    }
}

/// Of a sorted list.
fn unique<T: PartialEq>(at: &str, sorted: impl Iterator<Item = T>) -> Checked {
    let mut before = None;
    for one in sorted {
        if before.as_ref() == Some(&one) {
            return Err(VerificationError::Twice { at: at.to_owned() });
        }
        before = Some(one);
    }
    Ok(())
}

fn invalid(at: String, problem: &'static str) -> Checked {
    Err(VerificationError::Invalid { at, problem })
}
