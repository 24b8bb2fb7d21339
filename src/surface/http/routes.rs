//! The endpoints: take the body, ask, answer.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::problem::Problem;
use super::{decode, render};
use crate::revocation::ports::REQUEST_BYTES_MAX;
use crate::surface::ask::Desk;
use crate::surface::asker::Asker;
use crate::surface::body::read_body;
use crate::surface::guard::is_grpc;
use crate::wire::pb;

/// What the endpoints need.
#[derive(Clone)]
pub(in crate::surface) struct Twins {
    pub(in crate::surface) desk: Desk,
    /// The status of a check that cannot tell.
    pub(in crate::surface) unknown_status: StatusCode,
}

/// The JSON endpoints.
pub(in crate::surface) fn router(twins: Twins) -> Router {
    Router::new()
        .route("/v1/revocations", post(revoke))
        .route("/v1/revocations:reinstate", post(reinstate))
        .route("/v1/revocations:search", post(search))
        .route("/v1/check", post(check))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(twins)
}

/// Answers what no route does, in the form the caller speaks.
pub(in crate::surface) async fn fallback(request: Request) -> Response {
    if is_grpc(request.headers()) {
        return tonic::Status::unimplemented("no such service or method").into_http::<Body>();
    }
    Problem::new(StatusCode::NOT_FOUND, "NO_SUCH_PATH", "there is nothing at this path").into_response()
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD", "this path takes POST")
}

async fn revoke(State(twins): State<Twins>, request: Request) -> Result<Response, Problem> {
    let asker = Asker::of(request.extensions())?;
    let message = decode::revoke_request(&body(request).await?)?;
    let response = twins.desk.revoke(message, &asker).await?;
    Ok(answer(StatusCode::OK, &render::revoke(&response)))
}

async fn reinstate(State(twins): State<Twins>, request: Request) -> Result<Response, Problem> {
    let asker = Asker::of(request.extensions())?;
    let message = decode::reinstate_request(&body(request).await?)?;
    let response = twins.desk.reinstate(message, &asker).await?;
    Ok(answer(StatusCode::OK, &render::reinstate(&response)))
}

async fn search(State(twins): State<Twins>, request: Request) -> Result<Response, Problem> {
    let message = decode::list_request(&body(request).await?)?;
    let response = twins.desk.list(message).await?;
    Ok(answer(StatusCode::OK, &render::list(&response)))
}

async fn check(State(twins): State<Twins>, request: Request) -> Result<Response, Problem> {
    let message = decode::check_request(&body(request).await?)?;
    let response = twins.desk.check(&message)?;
    let status = if is_known(&response) { StatusCode::OK } else { twins.unknown_status };
    Ok(answer(status, &render::check(&response)))
}

fn is_known(response: &pb::CheckTokenResponse) -> bool {
    use pb::verdict::Outcome;
    let outcome = response.verdict.as_ref().and_then(|verdict| verdict.outcome.as_ref());
    matches!(outcome, Some(Outcome::NotRevoked(_) | Outcome::Revoked(_)))
}

/// The body of a JSON request, within its bounds.
async fn body(request: Request) -> Result<axum::body::Bytes, Problem> {
    if !is_json(request.headers()) {
        let detail = "the Content-Type must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "CONTENT_TYPE", detail));
    }
    Ok(read_body(request, REQUEST_BYTES_MAX).await?)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
