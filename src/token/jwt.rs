//! What a caller presents: a JWT in compact form (RFC 7519, RFC 7515 §3.1), an opaque token, or claims as JSON.
//!
//! Exactly two dots make a JWT, which must parse unless the caller says it is opaque; anything else is opaque, an
//! encrypted token (RFC 7516) included. A signature may be empty (RFC 7519 §6): none is verified here, and a token that
//! nobody signed is judged by its claims like any other.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, DecodeSliceError, Engine};
use sha2::{Digest, Sha256};

use super::flatten::{Flattening, Root, Scratch};
#[cfg(feature = "client")]
use super::json::Event;
use super::json::{JsonError, Scanner};
use crate::revocation::{Claims, TOKEN_SHA256};

/// The longest token, in bytes. HTTP servers refuse header lines long before that.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// The length of an unpadded base64url SHA-256.
const SHA256_TEXT_BYTES: usize = 43;

/// How to read a presented token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenKind {
    /// A JWT if it has exactly two dots, opaque otherwise.
    #[default]
    Detect,
    /// Opaque, whatever it looks like.
    Opaque,
}

/// What a presented token was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented {
    /// A JWT: its claims, its header and the hash of its signing input can be looked up.
    Jwt,
    /// An opaque token: it can only be found by `token_sha256`.
    Opaque,
}

/// The part of a token that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The claims.
    Payload,
    /// The signature.
    Signature,
}

/// Why a presented token is refused. Never holds any of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// A token of no bytes.
    #[error("the token is empty")]
    Empty,
    /// Over [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes, {bytes} given")]
    TooLong {
        /// The length given.
        bytes: usize,
    },
    /// An opaque token, or bytes that are not even text, with a byte that no access token can hold (RFC 6749 appendix
    /// A.12), such as a line end. Its hash would never match.
    #[error("the token is not printable ASCII at byte {offset}")]
    NotPrintable {
        /// Where, in bytes from the start of the token.
        offset: usize,
    },
    /// A part of a JWT that is not canonical unpadded base64url (RFC 7515 §2).
    #[error("the {part} is not unpadded base64url at byte {offset}")]
    Base64 {
        /// The part.
        part: Part,
        /// Where, in bytes from the start of the part.
        offset: usize,
    },
    /// A header or payload that is not acceptable JSON.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
}

/// Why a header or payload is refused. Never holds any of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the {part} is malformed: {error}")]
pub struct ClaimsError {
    /// Header or payload.
    pub part: Part,
    /// What is wrong and where, in bytes from the start of the JSON text.
    pub error: JsonError,
}

/// Turns tokens into claims. Keep one per thread: its buffers are reused, so that in time parsing allocates nothing.
#[derive(Default)]
pub struct TokenParser {
    /// A decoded part. Only grows, up to [`TOKEN_BYTES_MAX`].
    decoded: Vec<u8>,
    scanner: Scanner,
    scratch: Scratch,
}

impl TokenParser {
    /// A parser with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces `claims` by those of a presented token, `token_sha256` included. Verifies no signature.
    ///
    /// # Errors
    /// Everything a [`TokenError`] can say; `claims` is then empty.
    pub fn parse_token(&mut self, claims: &mut Claims, token: &[u8], kind: TokenKind) -> Result<Presented, TokenError> {
        claims.clear();
        let presented = self.add_token(claims, token, kind);
        if presented.is_err() {
            claims.clear();
        }
        presented
    }

    /// Replaces `claims` by those of a token's whole payload, and of its header if the caller could see that.
    /// The token itself counts as unseen.
    ///
    /// # Errors
    /// When either is not acceptable JSON; `claims` is then empty.
    pub fn parse_claims(
        &mut self,
        claims: &mut Claims,
        payload_json: &[u8],
        header_json: Option<&[u8]>,
    ) -> Result<(), ClaimsError> {
        claims.clear();
        let added = header_json
            .map_or(Ok(()), |header| self.add_json(claims, header, Root::Header))
            .and_then(|()| self.add_json(claims, payload_json, Root::Payload));
        if added.is_err() {
            claims.clear();
        }
        claims.header_unseen = header_json.is_none();
        claims.token_unseen = true;
        added
    }

    fn add_token(&mut self, claims: &mut Claims, token: &[u8], kind: TokenKind) -> Result<Presented, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Empty);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong { bytes: token.len() });
        }
        match jwt_parts(token) {
            Some(parts) if kind == TokenKind::Detect => {
                self.add_jwt(claims, &parts)?;
                Ok(Presented::Jwt)
            }
            _ => {
                if let Some(offset) = token.iter().position(|byte| !matches!(byte, 0x20..=0x7e)) {
                    return Err(TokenError::NotPrintable { offset });
                }
                add_sha256(claims, token);
                Ok(Presented::Opaque)
            }
        }
    }

    fn add_jwt(&mut self, claims: &mut Claims, parts: &JwtParts<'_>) -> Result<(), TokenError> {
        self.decode(parts.signature, Part::Signature)?;
        for (root, part, text) in
            [(Root::Header, Part::Header, parts.header), (Root::Payload, Part::Payload, parts.payload)]
        {
            let length = self.decode(text, part)?;
            let decoded = std::mem::take(&mut self.decoded);
            let added = self.add_json(claims, &decoded[..length], root);
            self.decoded = decoded;
            added?;
        }
        add_sha256(claims, parts.signing_input.as_bytes());
        Ok(())
    }

    /// Hands the events of a header or payload to `sink`, as transmitted in `text`.
    #[cfg(feature = "client")]
    pub(super) fn read(&mut self, part: Part, text: &str, sink: impl FnMut(Event<'_>)) -> Result<(), TokenError> {
        let length = self.decode(text, part)?;
        let read = self.scanner.scan(&self.decoded[..length], sink);
        read.map_err(|error| ClaimsError { part, error }.into())
    }

    /// Hands the events of a header or payload to `sink`.
    #[cfg(feature = "client")]
    pub(super) fn read_json(&mut self, part: Part, json: &[u8], sink: impl FnMut(Event<'_>)) -> Result<(), TokenError> {
        self.scanner.scan(json, sink).map_err(|error| ClaimsError { part, error }.into())
    }

    /// The payload of a JWT, as JSON; `None` for anything else.
    #[cfg(feature = "client")]
    pub(super) fn payload(&mut self, token: &str) -> Option<String> {
        let parts = jwt_parts(token.as_bytes())?;
        let bytes = self.bytes(Part::Payload, parts.payload).ok()?;
        std::str::from_utf8(bytes).ok().map(str::to_owned)
    }

    /// The bytes of a part, as transmitted in `text`.
    #[cfg(feature = "client")]
    pub(super) fn bytes(&mut self, part: Part, text: &str) -> Result<&[u8], TokenError> {
        let length = self.decode(text, part)?;
        Ok(&self.decoded[..length])
    }

    /// Decodes a part into the beginning of `self.decoded`; how many bytes it became.
    fn decode(&mut self, text: &str, part: Part) -> Result<usize, TokenError> {
        let bytes_max = base64::decoded_len_estimate(text.len());
        if self.decoded.len() < bytes_max {
            self.decoded.resize(bytes_max, 0);
        }
        URL_SAFE_NO_PAD.decode_slice(text, &mut self.decoded).map_err(|error| {
            let offset = match error {
                DecodeSliceError::DecodeError(DecodeError::InvalidByte(offset, _)) => offset,
                DecodeSliceError::DecodeError(DecodeError::InvalidLastSymbol { offset, .. }) => offset,
                _ => text.find('=').unwrap_or(text.len()),
            };
            TokenError::Base64 { part, offset }
        })
    }

    fn add_json(&mut self, claims: &mut Claims, json: &[u8], root: Root) -> Result<(), ClaimsError> {
        let mut flattening = Flattening::new(claims, root, &mut self.scratch);
        let part = match root {
            Root::Header => Part::Header,
            Root::Payload => Part::Payload,
        };
        self.scanner.scan(json, |event| flattening.handle(event)).map_err(|error| ClaimsError { part, error })
    }
}

/// Hides the buffers: they hold what the last token said.
impl fmt::Debug for TokenParser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenParser")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// The parts of a JWT as transmitted.
pub(super) struct JwtParts<'a> {
    pub(super) header: &'a str,
    pub(super) payload: &'a str,
    pub(super) signature: &'a str,
    /// Header, dot and payload (RFC 7515 §5.1).
    pub(super) signing_input: &'a str,
}

/// The parts between exactly two dots; `None` for any other number, and for bytes that are no text.
pub(super) fn jwt_parts(token: &[u8]) -> Option<JwtParts<'_>> {
    let token = std::str::from_utf8(token).ok()?;
    let (header, rest) = token.split_once('.')?;
    let (payload, signature) = rest.split_once('.')?;
    let signing_input = &token[..header.len() + 1 + payload.len()];
    (!signature.contains('.')).then_some(JwtParts { header, payload, signature, signing_input })
}

/// Adds the synthetic claim that addresses a token by its bytes.
fn add_sha256(claims: &mut Claims, bytes: &[u8]) {
    let mut text = [0; SHA256_TEXT_BYTES];
    let encoded = URL_SAFE_NO_PAD.encode_slice(Sha256::digest(bytes), &mut text);
    debug_assert_eq!(encoded, Ok(SHA256_TEXT_BYTES));
    if let Ok(text) = std::str::from_utf8(&text) {
        claims.push(TOKEN_SHA256, text, false);
    }
}
