//! What is revoked: a conjunction of claims. And its shape: the claim names, without the values.

use std::fmt;
use std::sync::Arc;

/// The most claims one selector may name.
pub const CLAIMS_MAX: usize = 8;
/// The longest claim name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest claim value, in bytes. A token value over this never matches.
pub const VALUE_BYTES_MAX: usize = 1024;

/// The synthetic claim by which a token without a usable `jti` is addressed: the unpadded base64url SHA-256 of a JWT's
/// signing input, or of the whole of an opaque token. Always computed, never read from a payload.
pub const TOKEN_SHA256: &str = "token_sha256";
/// The prefix that always and only means the JOSE header (RFC 7515 §4).
pub const HEADER_PREFIX: &str = "header.";

/// Whether a claim names a key: whoever holds it mints or proves tokens as he likes, whenever he likes.
pub(crate) fn names_a_key(name: &str) -> bool {
    name == "header.kid" || name.starts_with("cnf.")
}

/// The token time a cutoff is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TestedClaim {
    /// `iat`, when the token was issued (RFC 7519 §4.1.6).
    #[default]
    Iat,
    /// `auth_time`, when the user logged in (OpenID Connect Core 1.0 §2).
    AuthTime,
}

/// A conjunction of 1 to 8 `claim = value` pairs, sorted by the bytes of their names, and the time its cutoff tests.
///
/// Values are canonical texts ([`super::scalar`]). `Debug` hides them: they identify people.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    pairs: Box<[(Box<str>, Box<str>)]>,
    tested: TestedClaim,
}

/// Why claims are not a [`Selector`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No claim at all.
    #[error("a selector needs at least one claim")]
    Empty,
    /// More than [`CLAIMS_MAX`] claims.
    #[error("a selector has at most {CLAIMS_MAX} claims, {0} given")]
    TooManyClaims(usize),
    /// The same name twice.
    #[error("claim {0:?} is given twice")]
    DuplicateName(String),
    /// A name of no bytes.
    #[error("a claim name is empty")]
    EmptyName,
    /// A name over [`NAME_BYTES_MAX`].
    #[error("a claim name has at most {NAME_BYTES_MAX} bytes, {0} given")]
    NameTooLong(usize),
    /// A value of no bytes.
    #[error("the value of claim {0:?} is empty")]
    EmptyValue(String),
    /// A value over [`VALUE_BYTES_MAX`].
    #[error("the value of claim {name:?} has at most {VALUE_BYTES_MAX} bytes, {bytes} given")]
    ValueTooLong {
        /// The claim's name.
        name: String,
        /// The length given.
        bytes: usize,
    },
}

impl Selector {
    /// A selector over `pairs`, in any order, whose cutoff tests `tested`.
    ///
    /// # Errors
    /// Everything a [`SelectorError`] can say.
    ///
    /// ```
    /// use rescind::revocation::{Selector, TestedClaim};
    /// let one_app_of_one_user = Selector::new([("sub", "alice"), ("client_id", "web")], TestedClaim::Iat)?;
    /// assert_eq!(one_app_of_one_user.shape().to_string(), "client_id, sub");
    /// # Ok::<(), rescind::revocation::SelectorError>(())
    /// ```
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>, tested: TestedClaim) -> Result<Self, SelectorError>
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut pairs: Vec<(Box<str>, Box<str>)> =
            pairs.into_iter().take(CLAIMS_MAX + 1).map(|(name, value)| (name.into(), value.into())).collect();
        if pairs.is_empty() {
            return Err(SelectorError::Empty);
        }
        if pairs.len() > CLAIMS_MAX {
            return Err(SelectorError::TooManyClaims(pairs.len()));
        }
        for (name, value) in &pairs {
            check_name(name)?;
            if value.is_empty() {
                return Err(SelectorError::EmptyValue(name.to_string()));
            }
            if value.len() > VALUE_BYTES_MAX {
                return Err(SelectorError::ValueTooLong { name: name.to_string(), bytes: value.len() });
            }
        }
        pairs.sort_unstable();
        if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(SelectorError::DuplicateName(twice[0].0.to_string()));
        }
        Ok(Self { pairs: pairs.into(), tested })
    }

    /// The pairs, sorted by the bytes of their names.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of the claim `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs().find_map(|(n, value)| (n == name).then_some(value))
    }

    /// The time its cutoff tests.
    #[must_use]
    pub fn tested(&self) -> TestedClaim {
        self.tested
    }

    /// The names without the values.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape { names: self.pairs.iter().map(|(name, _)| name.clone()).collect(), tested: self.tested }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({}, values hidden)", self.shape())
    }
}

/// The sorted claim names of a selector and the time its cutoff tests. Cheap to clone.
///
/// Shapes are told to every replica in clear; values never are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    names: Arc<[Box<str>]>,
    tested: TestedClaim,
}

/// Why bytes are not the canonical encoding of a [`Shape`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a shape: {0}")]
pub struct ShapeError(pub(super) &'static str);

impl Shape {
    /// A shape over `names`, in any order.
    ///
    /// # Errors
    /// The name-related half of [`SelectorError`].
    pub fn new<N: Into<Box<str>>>(
        names: impl IntoIterator<Item = N>,
        tested: TestedClaim,
    ) -> Result<Self, SelectorError> {
        let mut names: Vec<Box<str>> = names.into_iter().take(CLAIMS_MAX + 1).map(Into::into).collect();
        if names.is_empty() {
            return Err(SelectorError::Empty);
        }
        if names.len() > CLAIMS_MAX {
            return Err(SelectorError::TooManyClaims(names.len()));
        }
        names.iter().try_for_each(|name| check_name(name))?;
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(SelectorError::DuplicateName(twice[0].to_string()));
        }
        Ok(Self { names: names.into(), tested })
    }

    /// The claim names, sorted by their bytes.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// The time its cutoffs test.
    #[must_use]
    pub fn tested(&self) -> TestedClaim {
        self.tested
    }

    /// Appends the canonical encoding: u8 tested claim (0 `iat`, 1 `auth_time`) ‖ u8 count ‖ per name, u8 length ‖ name.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.tested {
            TestedClaim::Iat => 0,
            TestedClaim::AuthTime => 1,
        });
        out.push(self.names.len() as u8);
        for name in self.names() {
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
    }

    /// Takes one canonical encoding off the front of `bytes`.
    ///
    /// # Errors
    /// [`ShapeError`] when the bytes end early or are not canonical (order, duplicates, lengths, UTF-8).
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, ShapeError> {
        let tested = match take(bytes, 1)?[0] {
            0 => TestedClaim::Iat,
            1 => TestedClaim::AuthTime,
            _ => return Err(ShapeError("unknown tested claim")),
        };
        let count = take(bytes, 1)?[0];
        let mut names: Vec<Box<str>> = Vec::with_capacity(CLAIMS_MAX);
        for _ in 0..count {
            let length = take(bytes, 1)?[0];
            let name = std::str::from_utf8(take(bytes, length.into())?).map_err(|_| ShapeError("name is not UTF-8"))?;
            if names.last().is_some_and(|last| **last >= *name) {
                return Err(ShapeError("names are not sorted and unique"));
            }
            if names.len() == CLAIMS_MAX {
                return Err(ShapeError("too many names"));
            }
            names.push(Box::from(name));
        }
        Self::new(names, tested).map_err(|_| ShapeError("names out of bounds"))
    }
}

/// `"client_id, sub"`, or `"sub @auth_time"` when it tests `auth_time`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        match self.tested {
            TestedClaim::Iat => Ok(()),
            TestedClaim::AuthTime => f.write_str(" @auth_time"),
        }
    }
}

fn check_name(name: &str) -> Result<(), SelectorError> {
    if name.is_empty() {
        return Err(SelectorError::EmptyName);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(SelectorError::NameTooLong(name.len()));
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], ShapeError> {
    let (head, tail) = bytes.split_at_checked(count).ok_or(ShapeError("ends early"))?;
    *bytes = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_pairs_does_not_matter() {
        let one = Selector::new([("sub", "a"), ("iss", "b")], TestedClaim::Iat).unwrap();
        let other = Selector::new([("iss", "b"), ("sub", "a")], TestedClaim::Iat).unwrap();
        assert_eq!(one, other);
        assert_eq!(one.shape().names().collect::<Vec<_>>(), ["iss", "sub"]);
    }

    #[test]
    fn each_broken_rule_is_named() {
        let new = |pairs: Vec<(String, String)>| Selector::new(pairs, TestedClaim::Iat);
        let pair = |n: &str, v: &str| (n.to_string(), v.to_string());
        assert_eq!(new(vec![]), Err(SelectorError::Empty));
        assert_eq!(new((0..9).map(|i| pair(&format!("c{i}"), "v")).collect()), Err(SelectorError::TooManyClaims(9)));
        assert_eq!(new(vec![pair("a", "1"), pair("a", "2")]), Err(SelectorError::DuplicateName("a".into())));
        assert_eq!(new(vec![pair("", "1")]), Err(SelectorError::EmptyName));
        assert_eq!(new(vec![pair(&"n".repeat(129), "1")]), Err(SelectorError::NameTooLong(129)));
        assert_eq!(new(vec![pair("a", "")]), Err(SelectorError::EmptyValue("a".into())));
        assert_eq!(
            new(vec![pair("a", &"v".repeat(1025))]),
            Err(SelectorError::ValueTooLong { name: "a".into(), bytes: 1025 })
        );
        assert!(new(vec![pair(&"n".repeat(128), &"v".repeat(1024))]).is_ok());
    }

    #[test]
    fn shapes_round_trip_and_only_the_canonical_bytes_decode() {
        let shape = Shape::new(["sub", "client_id"], TestedClaim::AuthTime).unwrap();
        let mut bytes = Vec::new();
        shape.encode(&mut bytes);
        assert_eq!(bytes, b"\x01\x02\x09client_id\x03sub");
        assert_eq!(Shape::decode(&mut &bytes[..]), Ok(shape));
        for bad in [&b"\x02\x01\x01a"[..], b"\x00\x00", b"\x00\x02\x01b\x01a", b"\x00\x02\x01a\x01a", b"\x00\x01\x05a"]
        {
            assert!(Shape::decode(&mut &bad[..]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debug_output_hides_values() {
        let selector = Selector::new([("sub", "alice@example.com")], TestedClaim::Iat).unwrap();
        assert!(!format!("{selector:?}").contains("alice"));
    }
}
