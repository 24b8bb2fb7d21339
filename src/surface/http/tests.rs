//! JSON requests, problem details, and what a browser may not do.

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::revocation::ports::{CutoffChoice, ExpiryChoice, FindError, Target, Violation, WriteError};
use crate::revocation::{Cutoff, Hit, Shape, TestedClaim, UnixSeconds, UnknownCause, Verdict};
use crate::surface::testing::{FakeNode, HERE};
use crate::surface::{Options, Surface};

fn app(node: &std::sync::Arc<FakeNode>) -> Router {
    Surface::new(node.node(), &Options::default(), tonic::service::Routes::default()).app
}

async fn post(app: &Router, path: &str, body: impl Into<Body>) -> http::Response<Body> {
    let request = Request::post(path).header("host", "127.0.0.1").header(CONTENT_TYPE, "application/json");
    app.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
}

async fn body(response: http::Response<Body>) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 26).await.unwrap()).unwrap()
}

async fn answer(node: &std::sync::Arc<FakeNode>, path: &str, request: Value) -> (StatusCode, Value) {
    let response = post(&app(node), path, request.to_string()).await;
    (response.status(), body(response).await)
}

#[tokio::test]
async fn a_revocation_reaches_the_node_as_through_grpc() {
    let node = FakeNode::new();
    let request = json!({
        "revocations": [
            { "selector": { "sub": 42, "admin": true }, "cutoff": "2026-01-01T00:00:00.5Z", "cutoff_on": "auth_time",
              "expires_in_seconds": 3600, "exceptions": [{ "sid": "s1" }], "reason": "lost phone" },
            { "token": "opaque", "unbounded": true, "never_expires": true },
        ],
        "request_id": "r1", "dry_run": false, "any_issuer": true, "confirmed": true,
    });
    let (status, reply) = answer(&node, "/v1/revocations", request).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    let asked = node.revokes.lock().remove(0);
    assert_eq!((asked.request_id.as_deref(), asked.any_issuer, asked.dry_run), (Some("r1"), true, false));
    assert!(asked.confirmed);
    assert_eq!(asked.items[0].target.selector().pairs().collect::<Vec<_>>(), [("admin", "true"), ("sub", "42")]);
    assert_eq!(asked.items[0].cutoff, CutoffChoice::At(UnixSeconds(1_767_225_601)), "a fraction rounds up");
    assert_eq!(asked.items[0].target.selector().tested(), TestedClaim::AuthTime);
    assert!(matches!(asked.items[1].target, Target::Token { exp: None, .. }));
    assert_eq!(asked.items[1].expiry, ExpiryChoice::Never);

    assert_eq!(reply["position"], HERE.to_string());
    assert_eq!(reply["repeated_request"], false);
    assert_eq!(
        reply["outcomes"][0],
        json!({
            "id": "abababab-42-0", "selector": { "sub": "42", "admin": "true" },
            "cutoff": "2026-01-01T00:00:00Z", "cutoff_on": "auth_time", "tokens_valid_from": "2026-01-01T00:00:01Z",
            "expires_at": "2026-01-02T00:00:00Z", "already_expired": false, "merged": false,
        })
    );
}

#[tokio::test]
async fn a_dry_run_shows_what_would_be_in_force() {
    let request = json!({ "revocations": [{ "selector": { "sub": "a" } }], "dry_run": true });
    let (status, reply) = answer(&FakeNode::new(), "/v1/revocations", request).await;
    assert_eq!((status, &reply["position"]), (StatusCode::OK, &Value::Null));
    assert_eq!(
        reply["outcomes"][0]["preview"],
        json!({ "merges_with": ["abababab-42-0"], "merges_with_more": 3, "cutoff": null, "expires_at": null })
    );
}

#[tokio::test]
async fn what_is_not_permitted_is_forbidden_field_by_field() {
    let node = FakeNode::new();
    let violation = |field: &str| Violation { field: field.into(), description: "needs the role admin".into() };
    let violations = vec![violation("revocations[0].selector"), violation("revocations[1].never_expires")];
    *node.write_error.lock() = Some(WriteError::NotPermitted { violations });
    let request = json!({ "revocations": [{ "selector": { "sub": "a" } }] });
    let (status, problem) = answer(&node, "/v1/revocations", request).await;
    assert_eq!((status, &problem["type"]), (StatusCode::FORBIDDEN, &"urn:rescind:problem:not-permitted".into()));
    assert_eq!(
        problem["violations"],
        json!([
            { "field": "revocations[0].selector", "description": "needs the role admin" },
            { "field": "revocations[1].never_expires", "description": "needs the role admin" },
        ])
    );
}

#[tokio::test]
async fn each_bad_request_is_a_problem_that_names_the_field() {
    let node = FakeNode::new();
    let of = |revocation: &str| format!("{{\"revocations\": [{revocation}]}}");
    for (path, request, field, part) in [
        ("/v1/revocations", "{}".to_owned(), "revocations", "0 given"),
        ("/v1/revocations", "[]".to_owned(), "the request", "an array given"),
        ("/v1/revocations", "{\"revocation\": 1}".to_owned(), "revocation", "is not known; known are revocations"),
        ("/v1/revocations", "{\"revocations\": {}}".to_owned(), "revocations", "must be an array, an object given"),
        ("/v1/revocations", "{\"dry_run\": \"secret\"}".to_owned(), "dry_run", "true or false, a string given"),
        ("/v1/revocations", "{\"request_id\": \"a\", \"request_id\": \"b\"}".to_owned(), "request_id", "twice"),
        ("/v1/revocations", of("7"), "revocations[0]", "an object, a number given"),
        ("/v1/revocations", of("{}"), "revocations[0]", "one of selector, token and opaque_token"),
        ("/v1/revocations", of("{\"token\":\"a\",\"selector\":{\"a\":\"b\"}}"), "revocations[0]", "only one of"),
        ("/v1/revocations", of("{\"selector\":{\"sub\":1.5}}"), "revocations[0].selector", "integral"),
        ("/v1/revocations", of("{\"selector\":{\"sub\":9007199254740992}}"), "revocations[0].selector", "2^53"),
        ("/v1/revocations", of("{\"selector\":{\"sub\":[\"secret\"]}}"), "revocations[0].selector", "an array given"),
        ("/v1/revocations", of("{\"selector\":{\"sub\":null}}"), "revocations[0].selector", "null given"),
        ("/v1/revocations", of("{\"selector\":{\"sub\":\"\"}}"), "revocations[0].selector", "empty"),
        ("/v1/revocations", of("{\"selector\":{\"sub\":\"a\",\"sub\":\"b\"}}"), "revocations[0].selector", "twice"),
        ("/v1/revocations", of("{\"token\":\"a\",\"cutoff\":1767225600}"), "revocations[0].cutoff", "a string"),
        ("/v1/revocations", of("{\"token\":\"a\",\"cutoff\":\"secret\"}"), "revocations[0].cutoff", "RFC 3339"),
        (
            "/v1/revocations",
            of("{\"token\":\"a\",\"cutoff\":\"9999-01-01T00:00:00Z\"}"),
            "revocations[0].cutoff",
            "at most",
        ),
        (
            "/v1/revocations",
            of("{\"token\":\"a\",\"cutoff_on\":\"exp\"}"),
            "revocations[0].cutoff_on",
            "iat or auth_time",
        ),
        (
            "/v1/revocations",
            of("{\"token\":\"a\",\"expires_in_seconds\":-1}"),
            "revocations[0].expires_in_seconds",
            "whole",
        ),
        ("/v1/revocations", of("{\"token\":\"a\",\"foo\":1}"), "revocations[0].foo", "is not known"),
        ("/v1/revocations", of("{\"token\":\"a.b\\n.c\"}"), "revocations[0].token", "signature"),
        (
            "/v1/revocations:reinstate",
            "{\"reinstatements\":[{\"id\":\"x\"}]}".to_owned(),
            "reinstatements[0].id",
            "hexadecimal",
        ),
        ("/v1/revocations:reinstate", "{\"reinstatements\":[{}]}".to_owned(), "reinstatements[0]", "one of id"),
        ("/v1/revocations:search", "{\"page_size\": 1001}".to_owned(), "page_size", "at most 1000"),
        ("/v1/revocations:search", "{\"page_size\": 18446744073709551616}".to_owned(), "page_size", "whole number"),
        ("/v1/revocations:search", "{\"claim\": {\"name\": \"sub\"}}".to_owned(), "claim", "empty"),
        ("/v1/revocations:search", "{\"at_least\": \"1\"}".to_owned(), "at_least", "32 hexadecimal digits"),
        ("/v1/revocations:search", "{\"accepted_from\": \"secret\"}".to_owned(), "accepted_from", "RFC 3339"),
        ("/v1/check", "{}".to_owned(), "token", "one of token, opaque_token and claims"),
        ("/v1/check", "{\"token\": \"a..\"}".to_owned(), "token", "header"),
        ("/v1/check", "{\"token\": \"a\", \"opaque_token\": \"a\"}".to_owned(), "token", "only one of"),
        ("/v1/check", "{\"claims\": {}}".to_owned(), "claims.payload", "required"),
        ("/v1/check", "{\"claims\": {\"payload\": []}}".to_owned(), "claims", "object"),
        ("/v1/check", "{\"claims\": {\"payload\": {\"a\":1,\"a\":2}}}".to_owned(), "claims", "duplicate name"),
    ] {
        let response = post(&app(&node), path, request.clone()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path} {request}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let problem = body(response).await;
        assert_eq!(problem["type"], "urn:rescind:problem:invalid-request");
        assert_eq!((problem["title"].as_str(), problem["status"].as_u64()), (Some("Bad Request"), Some(400)));
        let violation = &problem["violations"][0];
        assert_eq!(violation["field"], field, "{request} {problem}");
        assert!(violation["description"].as_str().unwrap().contains(part), "{part:?} is missing in {problem}");
        assert!(!problem.to_string().contains("secret"), "{problem} tells a value");
    }
    assert!(node.revokes.lock().is_empty() && node.checked_subjects.lock().is_empty());
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_its_place() {
    let node = FakeNode::new();
    let deep = format!("{}1", "[".repeat(100_000));
    for request in ["", "{", "{\"a\":\"\\ud800\"}", "{\"a\": 1e999}", "\u{0}", "{} {}", &deep] {
        let response = post(&app(&node), "/v1/check", request.to_owned()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let problem = body(response).await;
        assert_eq!(problem["type"], "urn:rescind:problem:invalid-json");
        assert!(problem["detail"].as_str().unwrap().contains("line 1, column"), "{problem}");
    }
}

#[tokio::test]
async fn each_refusal_of_the_node_has_its_status() {
    let node = FakeNode::new();
    let request = || json!({ "revocations": [{ "selector": { "sub": "a" } }] });
    for (error, status, reason, retry) in [
        (WriteError::TooManyShapes { active: vec![] }, StatusCode::INSUFFICIENT_STORAGE, "too-many-shapes", false),
        (WriteError::TooManyEntries { limit: 7 }, StatusCode::INSUFFICIENT_STORAGE, "too-many-entries", false),
        (WriteError::RequestIdReused, StatusCode::CONFLICT, "request-id-reused", false),
        (WriteError::Overloaded, StatusCode::SERVICE_UNAVAILABLE, "overloaded", true),
        (WriteError::Unavailable("disk full".into()), StatusCode::SERVICE_UNAVAILABLE, "writes-refused", false),
        (WriteError::OutcomeUnknown("x".into()), StatusCode::SERVICE_UNAVAILABLE, "outcome-unknown", true),
    ] {
        *node.write_error.lock() = Some(error.clone());
        let response = post(&app(&node), "/v1/revocations", request().to_string()).await;
        assert_eq!(response.status(), status, "{error}");
        assert_eq!(response.headers().contains_key(RETRY_AFTER), retry, "{error}");
        let problem = body(response).await;
        assert_eq!(problem["type"], format!("urn:rescind:problem:{reason}"));
        assert_eq!(problem["detail"], error.to_string());
    }
    *node.find_error.lock() = Some(FindError::Behind { indexed_through: HERE });
    let (status, problem) = answer(&node, "/v1/revocations:search", json!({})).await;
    assert_eq!(
        (status, &problem["type"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"urn:rescind:problem:index-behind".into())
    );
}

#[tokio::test]
async fn an_unknown_verdict_is_not_taken_for_a_success() {
    let node = FakeNode::new();
    let shape = Shape::new(["sub", "client_id"], TestedClaim::Iat).unwrap();
    let hit = Hit { shape, cutoff: Cutoff::UNBOUNDED };
    let rest = |position: String| json!({ "position": position, "staleness_seconds": 1.5 });
    for (verdict, status, expected) in [
        (Verdict::NotRevoked, StatusCode::OK, json!({ "verdict": "not_revoked" })),
        (
            Verdict::Revoked(hit),
            StatusCode::OK,
            json!({ "verdict": "revoked", "claim_names": ["client_id", "sub"], "cutoff": null, "cutoff_on": "iat" }),
        ),
        (
            Verdict::Unknown(UnknownCause::Incomplete("header.kid".into())),
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "verdict": "unknown", "cause": "INCOMPLETE", "missing": "header.kid", "deny": true }),
        ),
    ] {
        *node.verdict.lock() = verdict;
        let (got, reply) = answer(&node, "/v1/check", json!({ "token": "opaque" })).await;
        let mut expected = expected;
        expected.as_object_mut().unwrap().extend(rest(HERE.to_string()).as_object().unwrap().clone());
        assert_eq!((got, reply), (status, expected));
    }
    let options = Options { unknown_status: StatusCode::FORBIDDEN, ..Options::default() };
    let app = Surface::new(node.node(), &options, tonic::service::Routes::default()).app;
    assert_eq!(post(&app, "/v1/check", "{\"token\":\"a\"}").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn claims_are_checked_without_losing_digits() {
    let node = FakeNode::new();
    let request =
        "{\"claims\": {\"payload\": {\"sub\": 9007199254740991, \"x\": [\"\\u00e9\\n\", null, -1, 1.5, {}]}}}";
    let response = post(&app(&node), "/v1/check", request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(*node.checked_subjects.lock(), [Some("9007199254740991".to_owned())]);
}

#[tokio::test]
async fn a_page_is_rendered_with_its_audit_facts() {
    let node = FakeNode::new();
    let request = json!({ "claim": { "name": "sub", "value": 42 }, "accepted_from": "2026-01-01T00:00:00.9Z",
                          "accepted_before": "2026-01-01T00:00:00.1Z", "live_only": true, "page_size": 5,
                          "at_least": HERE.to_string() });
    let (status, page) = answer(&node, "/v1/revocations:search", request).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let query = node.queries.lock().remove(0);
    assert_eq!(query.claim, Some(("sub".into(), "42".into())));
    assert_eq!((query.accepted_from.unwrap().0, query.accepted_before.unwrap().0), (1_767_225_600, 1_767_225_601));
    assert_eq!((query.page_size, query.live_only, query.at_least), (5, true, Some(HERE)));
    assert_eq!(
        page,
        json!({
            "revocations": [{
                "id": "abababab-42-0", "selector": { "sub": "alice" }, "cutoff": null, "cutoff_on": "auth_time",
                "expires_at": null, "exceptions": [{ "sid": "s1" }], "reason": "lost phone",
                "actor": "anonymous@127.0.0.1", "accepted_at": "2026-01-01T00:00:00.042Z", "state": "reinstated",
                "reinstated": { "actor": "somebody", "at": "2026-01-01T00:00:00.042Z", "reason": "" },
            }],
            "next_page_token": "next",
            "indexed_through": HERE.to_string(),
        })
    );
}

#[tokio::test]
async fn a_reinstated_token_that_is_still_revoked_says_so() {
    let node = FakeNode::new();
    let shape = Shape::new(["sub"], TestedClaim::Iat).unwrap();
    *node.verdict.lock() = Verdict::Revoked(Hit { shape, cutoff: Cutoff::UNBOUNDED });
    let request = json!({ "reinstatements": [{ "token": "opaque" }, { "id": "abababab-1-0" }], "reason": "found" });
    let (status, reply) = answer(&node, "/v1/revocations:reinstate", request).await;
    assert_eq!(status, StatusCode::OK, "{reply}");
    assert_eq!(reply["outcomes"][0], json!({ "undone_ids": ["abababab-42-0"], "still_revoked_by": ["sub"] }));
    assert_eq!(reply["outcomes"][1]["still_revoked_by"], json!([]));
    assert_eq!(node.reinstates.lock()[0].reason, "found");
}

#[tokio::test]
async fn what_is_not_for_the_endpoints_is_refused_before_it_is_read() {
    let node = FakeNode::new();
    let send = async |method: &str, path: &str, kind: &str, body: Vec<u8>| {
        let request =
            Request::builder().method(method).uri(path).header("host", "localhost").header(CONTENT_TYPE, kind);
        app(&node).oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    };
    let status =
        async |method: &str, path: &str, kind: &str, body: Vec<u8>| send(method, path, kind, body).await.status();
    let valid = || b"{\"token\":\"a\"}".to_vec();
    assert_eq!(status("POST", "/v1/check", "application/json; charset=utf-8", valid()).await, StatusCode::OK);
    for kind in ["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded"] {
        assert_eq!(status("POST", "/v1/check", kind, valid()).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let large = vec![b' '; (1 << 20) + 1];
    assert_eq!(status("POST", "/v1/check", "application/json", large).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(status("GET", "/v1/check", "application/json", vec![]).await, StatusCode::METHOD_NOT_ALLOWED);
    let nowhere = send("POST", "/v1/nothing", "application/json", vec![]).await;
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    assert_eq!(nowhere.headers()[CONTENT_TYPE], "application/problem+json");
}
