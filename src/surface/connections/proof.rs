//! The hand by which a request proves its connection.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderName;

use super::place::Place;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Proves the connection that a request came over; every request that came through a listener carries one among its
/// extensions.
#[derive(Clone, Debug)]
pub struct Proof(pub(super) Arc<Place>);

/// A principal has as many connections as it may have. This one is closed once what it asked is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the principal has too many connections; at most {limit} (limits.connections_per_principal)")]
pub struct TooManyConnections {
    /// How many it may have.
    pub limit: usize,
}

impl Proof {
    /// The request is somebody's. Cheap when it is not the connection's first; the connection counts for the principal
    /// that came first.
    ///
    /// # Errors
    /// When the principal has too many others and none of them is idle. Refuse the request.
    pub fn prove(&self, principal: &str) -> Result<(), TooManyConnections> {
        self.prove_as(Some(principal))
    }

    /// The request was answered well, and nobody asks who callers are.
    pub(in crate::surface) fn prove_anyone(&self) {
        // Limits of a principal cannot refuse who is none.
        let _ = self.prove_as(None);
    }

    fn prove_as(&self, principal: Option<&str>) -> Result<(), TooManyConnections> {
        if self.0.is_proven() {
            return Ok(());
        }
        let Some(connections) = self.0.connections() else { return Ok(()) };
        connections.prove(&self.0, principal)
    }
}

/// Where nobody is authenticated: whoever gets a good answer is proven.
pub(in crate::surface) async fn prove_who_is_answered(request: Request, next: Next) -> Response {
    let proof = request.extensions().get::<Proof>().cloned();
    let response = next.run(request).await;
    if let Some(proof) = proof
        && is_good(&response)
    {
        proof.prove_anyone();
    }
    response
}

/// A refusal over gRPC is a status in the head, where there is no message; an answer has it in the trailers.
fn is_good(response: &Response) -> bool {
    let status = response.headers().get(GRPC_STATUS);
    !response.status().is_client_error() && status.is_none_or(|status| status == "0")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_refusal_proves_nothing() {
        let response = |status: u16, grpc: Option<&str>| {
            let mut response = http::Response::builder().status(status);
            if let Some(grpc) = grpc {
                response = response.header(GRPC_STATUS, grpc);
            }
            response.body(Body::empty()).unwrap()
        };
        assert!(is_good(&response(200, None)) && is_good(&response(200, Some("0"))));
        assert!(is_good(&response(503, None)), "a check that cannot tell is an answer");
        assert!(!is_good(&response(404, None)) && !is_good(&response(200, Some("12"))));
    }
}
