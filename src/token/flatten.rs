//! From JSON to claims: which values of a payload or header a selector can name, and under which names.
//!
//! - A scalar is found under its path, joined by dots (`cnf.jkt`); the scalar elements of an array under the array's.
//! - A top-level member whose name holds dots is found under that name as it stands (`https://example.com/tenant`).
//!   Nothing below it is, nor any deeper member whose name holds a dot: a path names exactly one place.
//! - Strings are taken as they are; numbers in canonical form ([`crate::revocation::scalar`]), those without one never
//!   match; booleans are `true` and `false`. Null, `""`, objects, arrays and objects within arrays never match.
//! - Members of the header are found under `header.`. In the payload, everything that would land there is ignored, and
//!   so is `token_sha256`, which is always computed.
//! - Names over [`NAME_BYTES_MAX`] and values over 1 KiB are left out, as no selector can hold them.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use super::date::NumericDate;
use super::json::{DEPTH_MAX, Event};
use crate::revocation::scalar::canonical_integer;
use crate::revocation::{Claims, HEADER_PREFIX, NAME_BYTES_MAX, TOKEN_SHA256};

/// The payload member whose own members would land under [`HEADER_PREFIX`].
const HEADER: &str = HEADER_PREFIX.split_at(HEADER_PREFIX.len() - 1).0;

/// The part of a token that a JSON object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Header,
    Payload,
}

/// Takes the events of one JSON object and adds what can match to the claims.
pub(super) struct Flattening<'a> {
    claims: &'a mut Claims,
    root: Root,
    scratch: &'a mut Scratch,
    /// How many objects that lie on a path are open; the root counts.
    depth: usize,
    /// How many containers are open that nothing can be found in.
    hidden: usize,
    in_array: bool,
    /// Whether the current member's scalars can be found under the path, and its members below it.
    named: bool,
    descends: bool,
}

/// Buffers to keep from one token to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// The name of the current member: at most one name longer than [`NAME_BYTES_MAX`].
    path: String,
    /// For each open object, the length of the path that its members' names are appended to.
    path_bytes: [usize; DEPTH_MAX],
    number: String,
}

impl Scratch {
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.path.capacity() + self.number.capacity()
    }
}

impl<'a> Flattening<'a> {
    pub(super) fn new(claims: &'a mut Claims, root: Root, scratch: &'a mut Scratch) -> Self {
        scratch.path.clear();
        if root == Root::Header {
            scratch.path.push_str(HEADER_PREFIX);
        }
        Self { claims, root, scratch, depth: 0, hidden: 0, in_array: false, named: false, descends: true }
    }

    #[inline]
    pub(super) fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::BeginObject if self.hidden > 0 || self.in_array || !self.descends => self.hidden += 1,
            Event::BeginArray if self.hidden > 0 || self.in_array || !self.named => self.hidden += 1,
            Event::EndObject | Event::EndArray if self.hidden > 0 => self.hidden -= 1,
            Event::BeginObject => {
                self.scratch.path_bytes[self.depth] = self.scratch.path.len();
                self.depth += 1;
            }
            Event::EndObject => self.depth -= 1,
            Event::BeginArray => self.in_array = true,
            Event::EndArray => self.in_array = false,
            _ if self.hidden > 0 => {}
            Event::Name(name) => self.name(name),
            _ if !self.named => {}
            Event::String(text) => self.claims.push(&self.scratch.path, text, self.in_array),
            Event::Bool(true) => self.claims.push(&self.scratch.path, "true", self.in_array),
            Event::Bool(false) => self.claims.push(&self.scratch.path, "false", self.in_array),
            Event::Number(text) => self.number(text),
            Event::Null => {}
        }
    }

    fn name(&mut self, name: &str) {
        let path = &mut self.scratch.path;
        path.truncate(self.scratch.path_bytes[self.depth - 1]);
        let top = self.depth == 1;
        if !top {
            path.push('.');
        }
        path.push_str(name);
        let dotted = name.bytes().any(|byte| byte == b'.');
        let fits = (1..=NAME_BYTES_MAX).contains(&path.len());
        self.named = fits && (top || !dotted);
        self.descends = !dotted && path.len() < NAME_BYTES_MAX;
        if top && self.root == Root::Payload {
            self.named &= !(name == TOKEN_SHA256 || name.starts_with(HEADER_PREFIX));
            self.descends &= name != HEADER;
        }
    }

    fn number(&mut self, text: &str) {
        let Scratch { path, number, .. } = &mut *self.scratch;
        // What most numbers look like is canonical already, and 15 digits are always in range.
        if text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            self.claims.push(path, text, self.in_array);
        } else if let Some(integer) = canonical_integer(text) {
            number.clear();
            if write!(number, "{integer}").is_ok() {
                self.claims.push(path, number, self.in_array);
            }
        }
        if self.root == Root::Payload && self.depth == 1 && !self.in_array {
            match &**path {
                "iat" => self.claims.iat = NumericDate::parse(text).issued(),
                "auth_time" => self.claims.auth_time = NumericDate::parse(text).issued(),
                "exp" => self.claims.exp = NumericDate::parse(text).expiry(),
                _ => {}
            }
        }
    }
}
