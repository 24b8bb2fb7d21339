//! Tokens as presented: parsed into the claims that the core looks revocations up by.
//!
//! ```text
//! JWT ──▶ parts, base64url ──▶ header, payload ──▶ scanner ──▶ flattening ──▶ Claims
//!                         └──▶ SHA-256 of the signing input ──▶ token_sha256 ──┘
//! ```
//!
//! Verifies no signature: what comes out is what the token says of itself. Its input may come from anybody, so nothing
//! here panics or recurses, every size has a limit, and what is refused leaves no claims behind.
//!
//! ```
//! use rescind::revocation::Claims;
//! use rescind::token::{Presented, TokenKind, TokenParser};
//!
//! let mut parser = TokenParser::new();
//! let mut claims = Claims::new();
//! let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJzdWIiOjQyfQ.c2lnbmF0dXJl";
//! assert_eq!(parser.parse_token(&mut claims, token.as_bytes(), TokenKind::Detect)?, Presented::Jwt);
//! assert_eq!(claims.value("sub"), Some("42"));
//! assert_eq!(claims.value("header.kid"), Some("k1"));
//! # Ok::<(), rescind::token::TokenError>(())
//! ```

mod address;
mod date;
#[cfg(feature = "client")]
mod decision;
mod flatten;
#[cfg(feature = "client")]
mod jose;
mod json;
mod jwt;
#[cfg(feature = "client")]
mod key_set;
#[cfg(feature = "client")]
pub mod keys;
#[cfg(all(test, feature = "client"))]
pub(crate) mod testing;
#[cfg(feature = "client")]
mod verifier;
#[cfg(feature = "client")]
mod verify;

pub use address::{Address, address};
#[cfg(feature = "client")]
pub use decision::{Allowed, Challenge, Decision, Denied, Reason, Tally, Unclear};
pub use json::{DEPTH_MAX, JSON_BYTES_MAX, JsonError, JsonProblem};
pub use jwt::{ClaimsError, Part, Presented, TOKEN_BYTES_MAX, TokenError, TokenKind, TokenParser};
#[cfg(feature = "client")]
pub use key_set::{KEY_SET_BYTES_MAX, KEYS_MAX, KeySet, KeySetError};
#[cfg(feature = "client")]
pub use verifier::{Bearer, Verifier};
#[cfg(feature = "client")]
pub use verify::{Refused, Rules, Verified, claimed_issuer, judge_verified, scopes, verify};
