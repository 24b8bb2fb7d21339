//! What a request that is not let through is answered, in the protocol that it speaks.

use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Response, StatusCode};
use tonic::{Code, Status};

use crate::token::Challenge;

/// Why a request is not let through, as the far end is told.
pub(super) struct Refusal {
    is_grpc: bool,
    status: StatusCode,
    code: Code,
    message: &'static str,
    challenge: Option<HeaderValue>,
}

impl Refusal {
    pub(super) fn denied(challenge: &Challenge, realm: &str, parts: &Parts) -> Self {
        let (status, code) = match challenge.status {
            400 => (StatusCode::BAD_REQUEST, Code::Unauthenticated),
            403 => (StatusCode::FORBIDDEN, Code::PermissionDenied),
            _ => (StatusCode::UNAUTHORIZED, Code::Unauthenticated),
        };
        Self {
            is_grpc: is_grpc(parts),
            status,
            code,
            message: challenge.description.unwrap_or("an access token is needed"),
            challenge: HeaderValue::try_from(challenge.www_authenticate(realm)).ok(),
        }
    }

    pub(super) fn unclear(parts: &Parts) -> Self {
        Self {
            is_grpc: is_grpc(parts),
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: Code::Unavailable,
            message: "cannot tell now whether the access token is to be accepted",
            challenge: None,
        }
    }

    /// Without a body. Over gRPC a response of headers only ("Trailers-Only").
    pub(super) fn into_response<B: Default>(self) -> Response<B> {
        let mut response = if self.is_grpc {
            Status::new(self.code, self.message).into_http()
        } else {
            let mut response = Response::new(B::default());
            *response.status_mut() = self.status;
            response
        };
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Whether it is `application/grpc`, with or without the form of its messages. Not gRPC-Web: that is translated further out.
fn is_grpc(parts: &Parts) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((start, rest)) = content_type.split_at_checked(GRPC.len()) else { return false };
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_answered_as_grpc() {
        let speaks = |content_type: &str| {
            let (parts, ()) =
                http::Request::builder().header(CONTENT_TYPE, content_type).body(()).unwrap().into_parts();
            is_grpc(&parts)
        };
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc; x=y", "Application/GRPC"]
        {
            assert!(speaks(content_type), "{content_type}");
        }
        for content_type in
            ["application/grpc-web", "application/grpc-web+proto", "application/json", "application/g", ""]
        {
            assert!(!speaks(content_type), "{content_type}");
        }
    }
}
