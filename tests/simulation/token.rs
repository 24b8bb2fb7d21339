//! The tokens that are revoked and asked for. Each subject has one, and another one of the session "here", which some
//! revocations spare.

use rescind::revocation::{Claims, Selector, TestedClaim};

/// Subjects that may be revoked; those after them never are.
pub const SUBJECTS: u32 = 24;
/// Subjects that nobody ever revokes.
pub const STRANGERS: u32 = 8;
/// The first token of a session.
const HERE: u32 = 1000;

/// Every token there is.
pub fn all() -> impl Iterator<Item = u32> {
    (0..SUBJECTS + STRANGERS).chain((0..SUBJECTS).map(here))
}

/// A subject's token.
pub fn of(subject: u32) -> u32 {
    subject
}

/// The token of its session "here".
pub fn here(subject: u32) -> u32 {
    HERE + subject
}

/// The selector of a subject.
pub fn selector(subject: u32) -> Selector {
    Selector::new([("sub", format!("user-{subject}").as_str())], TestedClaim::Iat).unwrap()
}

/// The selector of its session "here".
pub fn session(subject: u32) -> Selector {
    Selector::new([("sid", format!("here-{subject}").as_str())], TestedClaim::Iat).unwrap()
}

/// The inverse of [`selector`].
pub fn subject_of(selector: &Selector) -> u32 {
    selector.value("sub").unwrap().trim_start_matches("user-").parse().unwrap()
}

/// The claims of a token, without any time in it: every cutoff reaches it.
pub fn claims(token: u32) -> Claims {
    let (subject, is_here) = (token % HERE, token >= HERE);
    let mut claims = Claims::new();
    claims.push("sub", &format!("user-{subject}"), false);
    if is_here {
        claims.push("sid", &format!("here-{subject}"), false);
    }
    claims
}
