//! How documents of issuers are fetched; by whom, the room above knows.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// What is under way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchError>> + Send + 'a>>;

/// Fetches one document.
pub trait Fetch: Send + Sync {
    /// The document at `url`, at most [`super::super::KEY_SET_BYTES_MAX`] bytes of it. Follows no redirect.
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a>;
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What it says.
    pub body: Vec<u8>,
    /// How long it may be kept (`Cache-Control: max-age`, RFC 9111 §5.2.2.1), if that is said.
    pub max_age: Option<Duration>,
}

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The server cannot be reached, or breaks the protocol.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It answers with another status than 200.
    #[error("answers with status {0}")]
    Status(u16),
    /// It sends too much.
    #[error("sends more than {limit} bytes")]
    TooLarge {
        /// The most that is taken.
        limit: usize,
    },
    /// It takes too long.
    #[error("does not answer within {} s", .0.as_secs())]
    TooSlow(Duration),
}
