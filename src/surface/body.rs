//! The body of an HTTP request, within its bounds.

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use tokio::time::timeout;

use super::budget::{BODY_WITHIN, Late};

/// Why there is no body.
#[derive(Clone, Copy, Debug)]
pub(super) enum BodyError {
    /// It has more bytes than this.
    TooLarge { bytes_max: usize },
    /// The connection broke, or what came is no body.
    Unreadable,
    /// It came too slowly, or had to make room.
    Late(Late),
}

/// All of it.
pub(super) async fn read_body(request: Request, bytes_max: usize) -> Result<Bytes, BodyError> {
    match timeout(BODY_WITHIN, to_bytes(request.into_body(), bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(BodyError::TooLarge { bytes_max }),
        Ok(Err(error)) => Err(Late::of(&error).map_or(BodyError::Unreadable, BodyError::Late)),
        Err(_) => Err(BodyError::Late(Late::Slow)),
    }
}

fn is_length_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
