//! A token's claims, flattened: what the check looks values up in.
//!
//! Holds canonical texts only ([`super::scalar`]); parsing a token into them is `token`'s work. Meant to be kept and
//! reused: [`Claims::clear`] keeps its buffers, so that a check of the next token allocates nothing.

use std::fmt;
use std::ops::Range;

use super::selector::{HEADER_PREFIX, TOKEN_SHA256, TestedClaim, VALUE_BYTES_MAX};
use super::time::UnixSeconds;

/// Every value of a token that a selector could name, and its times.
#[derive(Clone, Default)]
pub struct Claims {
    text: String,
    /// A hash of each field's name, beside the fields so that a look-up reads little.
    name_hashes: Vec<u32>,
    fields: Vec<Field>,
    /// `iat` (RFC 7519 §4.1.6), floored; `None` when missing or not a number.
    pub iat: Option<UnixSeconds>,
    /// `auth_time` (OpenID Connect Core 1.0 §2), floored; `None` when missing or not a number.
    pub auth_time: Option<UnixSeconds>,
    /// `exp` (RFC 7519 §4.1.4), floored; `None` when missing or not a number.
    pub exp: Option<UnixSeconds>,
    /// The caller could not see the JOSE header.
    pub header_unseen: bool,
    /// The caller could not see the token itself, so `token_sha256` cannot be computed.
    pub token_unseen: bool,
}

#[derive(Clone)]
struct Field {
    name: Range<u32>,
    value: Range<u32>,
    in_array: bool,
}

/// One value under a claim name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Value<'a> {
    /// The canonical text.
    pub text: &'a str,
    /// Whether it is an element of an array. Exceptions spare scalar claims only.
    pub in_array: bool,
}

impl Claims {
    /// No claims at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets everything and keeps the buffers.
    pub fn clear(&mut self) {
        let Self { text, name_hashes, fields, iat, auth_time, exp, header_unseen, token_unseen } = self;
        text.clear();
        name_hashes.clear();
        fields.clear();
        (*iat, *auth_time, *exp) = (None, None, None);
        (*header_unseen, *token_unseen) = (false, false);
    }

    /// Adds a value under a name. One that no selector can hold (empty, or over 1 KiB) is left out: it never matches.
    pub fn push(&mut self, name: &str, value: &str, in_array: bool) {
        if value.is_empty() || value.len() > VALUE_BYTES_MAX {
            return;
        }
        // The elements of an array come one after the other and share their name's text and hash.
        let (name_range, hash) = match (self.fields.last(), self.name_hashes.last()) {
            (Some(last), Some(hash)) if self.slice(&last.name) == name => (last.name.clone(), *hash),
            _ => (self.append(name), name_hash(name)),
        };
        let value_range = self.append(value);
        self.name_hashes.push(hash);
        self.fields.push(Field { name: name_range, value: value_range, in_array });
    }

    /// Takes every value under `name` away and adds this one, which the caller knows better than the token does. Without
    /// effect on times, which are not looked up by name.
    pub fn replace(&mut self, name: &str, value: &str) {
        while let Some(index) = self.fields.iter().position(|field| self.slice(&field.name) == name) {
            self.fields.remove(index);
            self.name_hashes.remove(index);
        }
        self.push(name, value, false);
    }

    /// All values under `name`; `name_hash` must be [`name_hash`] of it.
    #[inline]
    pub(super) fn values_hashed<'a>(&'a self, name: &'a str, hash: u32) -> impl Iterator<Item = Value<'a>> + Clone {
        self.name_hashes.iter().enumerate().filter(move |(_, h)| **h == hash).filter_map(move |(index, _)| {
            let field = &self.fields[index];
            (self.slice(&field.name) == name)
                .then(|| Value { text: self.slice(&field.value), in_array: field.in_array })
        })
    }

    /// All values under `name`.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Value<'a>> + Clone {
        self.values_hashed(name, name_hash(name))
    }

    /// The first value under `name`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let hash = name_hash(name);
        self.name_hashes
            .iter()
            .zip(&self.fields)
            .find_map(|(h, field)| (*h == hash && self.slice(&field.name) == name).then(|| self.slice(&field.value)))
    }

    /// Whether the caller could see the part of the token that the claim `name` lies in.
    #[must_use]
    pub fn sees(&self, name: &str) -> bool {
        !(self.header_unseen && name.starts_with(HEADER_PREFIX) || self.token_unseen && name == TOKEN_SHA256)
    }

    /// The tested time; `None` when missing, not a number, or more than 10 minutes after `now`.
    #[inline]
    #[must_use]
    pub fn time(&self, tested: TestedClaim, now: UnixSeconds) -> Option<UnixSeconds> {
        const FUTURE_SECONDS_MAX: u64 = 600;
        let time = match tested {
            TestedClaim::Iat => self.iat,
            TestedClaim::AuthTime => self.auth_time,
        };
        time.filter(|time| *time <= now.plus(FUTURE_SECONDS_MAX))
    }

    fn append(&mut self, text: &str) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        start..self.text.len() as u32
    }

    #[inline]
    fn slice(&self, range: &Range<u32>) -> &str {
        &self.text[range.start as usize..range.end as usize]
    }
}

/// Hides every value: they identify people.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({} values hidden)", self.fields.len())
    }
}

/// FNV-1a: names are short, and a collision costs one comparison.
#[inline]
pub(super) fn name_hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_value_is_the_only_one_and_others_stay() {
        let mut claims = Claims::new();
        claims.push("header.kid", "theirs", false);
        claims.push("sub", "42", false);
        claims.push("header.kid", "theirs too", true);
        claims.replace("header.kid", "ours");
        let values: Vec<_> = claims.values("header.kid").collect();
        assert_eq!(values, [Value { text: "ours", in_array: false }]);
        assert_eq!(claims.value("sub"), Some("42"));
    }
}
