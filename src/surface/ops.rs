//! The operators' port: metrics, liveness, readiness. Holds no identifier.
//!
//! Ready means that checks are answered. What is wrong beyond that (writes refused, a clock in doubt) is told in the
//! same place without making the server unready: taking it out of service would stop the checks too.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::connections::prove_who_is_answered;
use crate::revocation::ports::Reports;

/// The media type of the OpenMetrics text format.
const OPENMETRICS: HeaderValue = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Renders all metrics now.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the operators' port tells.
#[derive(Clone)]
pub struct Ops {
    /// The metrics.
    pub metrics: RenderMetrics,
    /// The node's condition.
    pub reports: Arc<dyn Reports>,
    /// Cancelled once the server stops: it is no longer ready then.
    pub stop: CancellationToken,
}

/// The operators' endpoints.
pub fn router(ops: Ops) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(ops)
        .layer(from_fn(prove_who_is_answered))
}

async fn metrics(State(ops): State<Ops>) -> Response {
    ([(CONTENT_TYPE, OPENMETRICS)], (ops.metrics)()).into_response()
}

async fn readyz(State(ops): State<Ops>, headers: HeaderMap) -> Response {
    let status = ops.reports.status();
    let stopping = ops.stop.is_cancelled().then(|| "the server is stopping".to_owned());
    let following = status.following.as_ref();
    let unready = following.filter(|following| !following.ready).map(|following| {
        format!("no verified set that has caught up ({}, following {})", following.state, following.upstream)
    });
    let trouble = following.and_then(|following| {
        following.trouble.as_ref().map(|why| format!("does not follow {}: {why}", following.upstream))
    });
    let stale = following.filter(|following| following.stale).map(|following| {
        let answer =
            if following.deny_when_stale { "checks that find nothing are refused" } else { "served all the same" };
        format!("the set is staler than {:?}: {answer}", following.max_staleness)
    });
    let ready = stopping.is_none() && unready.is_none();
    let writes = status.writes_refused.map(|why| format!("writes are refused: {why}"));
    let clock = status.clock_alarm.map(|why| format!("the clock is in doubt: {why}"));
    let index = status.index_trouble.map(|why| format!("the search index does not follow: {why}"));
    let members = status.members_trouble.map(|why| format!("subscribers may be missed unseen: {why}"));
    let reasons: Vec<String> =
        [stopping, unready, trouble, stale, writes, clock, index, members].into_iter().flatten().collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let wants_json = headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/json"));
    if wants_json {
        let body = json!({ "ready": ready, "reasons": reasons }).to_string();
        return (code, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response();
    }
    let verdict = if ready { "ready" } else { "not ready" };
    let lines: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (code, format!("{verdict}\n{lines}")).into_response()
}
