//! Presented tokens, parsed with buffers that each thread keeps.

use std::cell::RefCell;

use crate::revocation::Claims;
use crate::revocation::ports::Target;
use crate::surface::violations::{Path, Violations};
use crate::token::{TokenKind, TokenParser, address};
use crate::wire::pb;

/// The most tokens in one check request.
pub(crate) const TOKENS_MAX: usize = 1000;

/// What parsing a token needs.
#[derive(Default)]
pub(crate) struct Scratch {
    parser: TokenParser,
    claims: Claims,
}

/// Runs `work` with this thread's buffers. `work` must not call this again.
pub(crate) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Scratch> = RefCell::default();
    }
    SCRATCH.with_borrow_mut(work)
}

/// The claims of a presented token.
pub(crate) fn presented<'s>(
    scratch: &'s mut Scratch,
    message: Option<&pb::PresentedToken>,
    at: &Path<'_>,
    violations: &mut Violations,
) -> Option<&'s Claims> {
    use pb::presented_token::Presented;
    let presented = message.and_then(|token| token.presented.as_ref());
    match presented {
        Some(Presented::Token(token)) => parse(scratch, token, TokenKind::Detect, &at.field("token"), violations),
        Some(Presented::OpaqueToken(token)) => {
            parse(scratch, token, TokenKind::Opaque, &at.field("opaque_token"), violations)
        }
        Some(Presented::Claims(claims)) => {
            let Scratch { parser, claims: parsed } = scratch;
            match parser.parse_claims(parsed, &claims.payload_json, claims.header_json.as_deref()) {
                Ok(()) => Some(parsed),
                Err(error) => {
                    violations.add(at.field("claims"), error);
                    None
                }
            }
        }
        None => {
            violations.add(at, "one of token, opaque_token and claims is required");
            None
        }
    }
}

/// The one token that `text` is, as a target.
pub(super) fn target(text: &str, kind: TokenKind, at: &Path<'_>, violations: &mut Violations) -> Option<Target> {
    with_scratch(|scratch| {
        let claims = parse(scratch, text, kind, at, violations)?;
        let found = address(claims);
        if found.is_none() {
            violations.add(at, "the token cannot be addressed");
        }
        found.map(|found| Target::Token { selector: found.selector, exp: found.exp })
    })
}

fn parse<'s>(
    scratch: &'s mut Scratch,
    text: &str,
    kind: TokenKind,
    at: &Path<'_>,
    violations: &mut Violations,
) -> Option<&'s Claims> {
    let Scratch { parser, claims } = scratch;
    match parser.parse_token(claims, text.as_bytes(), kind) {
        Ok(_) => Some(claims),
        Err(error) => {
            violations.add(at, error);
            None
        }
    }
}
