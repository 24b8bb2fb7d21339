//! What the index is asked and what it answers.

use crate::journal::error::Cause;
use crate::journal::record::ExpiryBasis;
use crate::revocation::{Cutoff, Minute, Revision, RevocationId, Selector, UnixMillis};

/// The most rows on one page.
pub const PAGE_ROWS_MAX: usize = 1000;

/// Which revocations are listed: those that meet every condition given, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The selector holds exactly this claim name and value.
    pub claim: Option<(String, String)>,
    /// The principal that asked for it.
    pub actor: Option<String>,
    /// Accepted at this time or later.
    pub accepted_from: Option<UnixMillis>,
    /// Accepted before this time.
    pub accepted_before: Option<UnixMillis>,
    /// `Some(true)`: only live ones; `Some(false)`: only expired and reinstated ones.
    pub live: Option<bool>,
    /// How many rows a page holds, 1 to [`PAGE_ROWS_MAX`]. A page may hold fewer and still have a next one.
    pub page_rows: usize,
    /// [`Page::next`] of the page before; the conditions must be the same.
    pub page_token: Option<String>,
}

/// Some of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub rows: Vec<Row>,
    /// Where it goes on; `None` at the end.
    pub next: Option<String>,
    /// The last revision the answer takes into account.
    pub indexed_through: Revision,
}

/// One revocation with its audit facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its id.
    pub id: RevocationId,
    /// What it revokes.
    pub selector: Selector,
    /// The latest issue time it reaches.
    pub cutoff: Cutoff,
    /// When it may be forgotten, extensions included.
    pub expiry: Minute,
    /// Where the expiry comes from.
    pub expiry_basis: ExpiryBasis,
    /// What it spares.
    pub exceptions: Vec<Selector>,
    /// Why.
    pub reason: String,
    /// The token handed in was expired already.
    pub already_expired: bool,
    /// Who asked.
    pub actor: String,
    /// From where.
    pub peer: String,
    /// When the request came in.
    pub accepted_at: UnixMillis,
    /// Who took it back, if anybody did.
    pub reinstated: Option<Reinstated>,
    /// Neither expired nor reinstated as of `indexed_through`.
    pub live: bool,
}

/// How a revocation was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reinstated {
    /// The revision that did.
    pub revision: Revision,
    /// Who asked.
    pub actor: String,
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: String,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The page size is out of bounds.
    #[error("a page holds 1 to {PAGE_ROWS_MAX} rows, {given} asked for")]
    PageRows {
        /// What was asked for.
        given: usize,
    },
    /// The page token was not made here, or for other conditions.
    #[error("the page token is malformed or belongs to other conditions")]
    PageToken,
    /// The page token was made in another epoch.
    #[error("the page token is from another epoch")]
    PageTokenEpoch,
    /// The index failed; damage is rebuilt at the next notification.
    #[error("the index cannot be read")]
    Store(#[source] Cause),
}
