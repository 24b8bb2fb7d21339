//! Buffers for parsing tokens, one set per thread.
//!
//! They grow to what the largest token needed, at most a few times [`crate::token::TOKEN_BYTES_MAX`], and are then reused:
//! in time a check of a token allocates nothing.

use std::cell::RefCell;

use crate::revocation::Claims;
use crate::token::TokenParser;

thread_local! {
    static SCRATCH: RefCell<(TokenParser, Claims)> = RefCell::default();
}

/// Lends the thread's buffers to `work`, which must not call this again.
pub(super) fn with<T>(work: impl FnOnce(&mut TokenParser, &mut Claims) -> T) -> T {
    SCRATCH.with_borrow_mut(|(parser, claims)| {
        let result = work(parser, claims);
        claims.clear();
        result
    })
}
