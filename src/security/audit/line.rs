//! One line of the file: JSON, with the hash of the line before it, and its own.
//!
//! `hash` is the SHA-256 of `rescind/denied/1`, a zero byte, and the line's bytes up to, not including, `,"hash":`.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::revocation::UnixMillis;

/// Keeps the hash of a line apart from every other use of SHA-256.
const DOMAIN: &[u8] = b"rescind/denied/1\0";
/// What stands between what is hashed and the hash.
const BEFORE_HASH: &str = ",\"hash\":\"";
/// What follows the hash.
const AFTER_HASH: &str = "\"}";
/// The longest line, in bytes: names of 128 bytes, each byte of them escaped, and the rest.
pub(super) const LINE_BYTES_MAX: usize = 2048;

/// The hash of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LineHash(pub(super) [u8; 32]);

/// What a line tells: so many denials from `at` to `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) at: UnixMillis,
    pub(super) until: UnixMillis,
    pub(super) count: u64,
    pub(super) principal: Option<String>,
    pub(super) credential: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) call: Option<&'static str>,
    pub(super) needs: Option<String>,
    pub(super) reason: &'static str,
}

#[derive(Serialize)]
struct Written<'a> {
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<&'a str>,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    prev: String,
}

impl Line {
    /// The line's bytes with the newline, and its hash.
    pub(super) fn render(&self, lost: u64, prev: LineHash) -> Result<(String, LineHash), serde_json::Error> {
        let written = Written {
            at: time(self.at),
            until: (self.until > self.at).then(|| time(self.until)),
            count: self.count,
            principal: self.principal.as_deref(),
            credential: self.credential.as_deref(),
            peer: self.peer.as_deref(),
            call: self.call,
            needs: self.needs.as_deref(),
            reason: self.reason,
            lost: (lost > 0).then_some(lost),
            prev: prev.to_hex(),
        };
        let mut text = serde_json::to_string(&written)?;
        text.truncate(text.len() - 1);
        let hash = hash(text.as_bytes());
        let _ = writeln!(text, "{BEFORE_HASH}{}{AFTER_HASH}", hash.to_hex());
        Ok((text, hash))
    }
}

/// What a line without its newline says of itself and of the one before; `None` when it is none, or its hash is not its own.
pub(super) fn chained(line: &str) -> Option<(LineHash, LineHash)> {
    #[derive(serde::Deserialize)]
    struct Prev {
        prev: String,
    }
    let (hashed, own) = line.strip_suffix(AFTER_HASH)?.rsplit_once(BEFORE_HASH)?;
    let own = LineHash::from_hex(own)?;
    let Prev { prev } = serde_json::from_str(line).ok()?;
    (hash(hashed.as_bytes()) == own).then_some((LineHash::from_hex(&prev)?, own))
}

fn hash(hashed: &[u8]) -> LineHash {
    LineHash(Sha256::new().chain_update(DOMAIN).chain_update(hashed).finalize().into())
}

impl LineHash {
    pub(super) fn to_hex(self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn from_hex(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let bytes = text.as_bytes();
        let mut hash = [0; 32];
        if bytes.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

/// RFC 3339, to the millisecond.
fn time(at: UnixMillis) -> String {
    let at = i64::try_from(at.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(String::new, |at| format!("{at:.3}"))
}
