//! Bad requests, one by one, through gRPC, JSON and the command line: each is refused with its type, its field and its
//! limit, and changes nothing.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use common::caller::{Caller, Outcome, Standing, claims, revocation, selector};
use common::http::{self, Response};
use common::server::Server;
use rescind::wire::pb;
use rescind::wire::pb::presented_token::Presented;
use rescind::wire::pb::revocation::{Cutoff, Expiry, Target};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// 2100-01-01T00:00:00Z.
const FAR_AHEAD: u64 = 4_102_444_800;

/// One revocation that cannot be, in every form that can say it.
struct Case {
    name: &'static str,
    grpc: Option<pb::Revocation>,
    /// The element of `revocations`, as text: JSON has more ways to be wrong than a tree can hold.
    json: Option<String>,
    cli: Vec<String>,
    /// Below `revocations[0]`, in gRPC and in JSON.
    fields: (&'static str, &'static str),
    says: &'static str,
}

impl Case {
    fn new(name: &'static str, fields: (&'static str, &'static str), says: &'static str) -> Self {
        Self { name, grpc: None, json: None, cli: Vec::new(), fields, says }
    }

    fn grpc(self, revocation: pb::Revocation) -> Self {
        Self { grpc: Some(revocation), ..self }
    }

    fn json(self, text: impl ToString) -> Self {
        Self { json: Some(text.to_string()), ..self }
    }

    fn cli<T: ToString>(self, arguments: impl IntoIterator<Item = T>) -> Self {
        Self { cli: arguments.into_iter().map(|argument| argument.to_string()).collect(), ..self }
    }
}

/// A claim that cannot be, in all three forms.
fn pairs(name: &'static str, pairs: &[(&str, &str)], field: &'static str, says: &'static str) -> Case {
    let members: Vec<String> = pairs.iter().map(|(name, value)| format!("{}:{}", json!(name), json!(value))).collect();
    let flags = pairs.iter().flat_map(|(name, value)| ["--claim".to_owned(), format!("{name}={value}")]);
    Case::new(name, (field, "selector"), says)
        .grpc(revocation(pairs))
        .json(format!(r#"{{"selector":{{{}}}}}"#, members.join(",")))
        .cli(flags)
}

/// A token that cannot be, in all three forms.
fn token(name: &'static str, token: &str, says: &'static str) -> Case {
    let target = Some(Target::Token(token.to_owned()));
    Case::new(name, ("token", "token"), says)
        .grpc(pb::Revocation { target, ..pb::Revocation::default() })
        .json(json!({ "token": token }))
        .cli(["--token", token])
}

fn jwt(header: &str, payload: &[u8]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
    format!("{}.{}.c2ln", BASE64URL.encode(header), BASE64URL.encode(payload))
}

const HEADER: &str = r#"{"alg":"none"}"#;

fn cases() -> Vec<Case> {
    let nine: Vec<(String, String)> = (0..9).map(|n| (format!("c{n}"), "v".to_owned())).collect();
    let nine: Vec<(&str, &str)> = nine.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let (long_name, long_value) = ("n".repeat(129), "v".repeat(1025));
    let sub = revocation(&[("sub", "alice")]);
    let four_and_one: Vec<pb::Selector> = (0..5).map(|n| selector(&[("sid", &n.to_string())])).collect();
    vec![
        Case::new("no claims", ("selector", "selector"), "at least one")
            .grpc(revocation(&[]))
            .json(r#"{"selector":{}}"#),
        pairs("a claim twice", &[("sub", "a"), ("sub", "b")], "selector", "twice"),
        pairs("an empty name", &[("", "a")], "selector.claims[0].name", "empty"),
        pairs("an empty value", &[("sub", "")], "selector.claims[0].value", "empty"),
        pairs("a long name", &[(&long_name, "a")], "selector.claims[0].name", "at most 128 bytes, 129 given"),
        pairs("a long value", &[("sub", &long_value)], "selector.claims[0].value", "at most 1024 bytes, 1025 given"),
        pairs("nine pairs", &nine, "selector", "at most 8 claims, 9 given"),
        pairs("a hash of another length", &[("token_sha256", "abc")], "selector", "43 bytes, 3 bytes given"),
        Case::new("nothing to revoke", ("", ""), "is required").grpc(pb::Revocation::default()).json("{}"),
        Case::new("a future cutoff", ("cutoff_seconds", "cutoff"), "beyond the authority's now")
            .grpc(pb::Revocation { cutoff: Some(Cutoff::CutoffSeconds(FAR_AHEAD)), ..sub.clone() })
            .json(r#"{"selector":{"sub":"alice"},"cutoff":"2100-01-01T00:00:00Z"}"#)
            .cli(["--sub", "alice", "--cutoff", "2100-01-01T00:00:00Z"]),
        Case::new("an expiry in the past", ("expires_at_seconds", "expires_at"), "beyond the authority's now")
            .grpc(pb::Revocation { expiry: Some(Expiry::ExpiresAtSeconds(60)), ..sub.clone() })
            .json(r#"{"selector":{"sub":"alice"},"expires_at":"1970-01-01T00:01:00Z"}"#)
            .cli(["--sub", "alice", "--expires-at", "60"]),
        Case::new("an expiry of nothing", ("expires_in_seconds", "expires_in_seconds"), "0 given")
            .grpc(pb::Revocation { expiry: Some(Expiry::ExpiresInSeconds(0)), ..sub.clone() })
            .json(r#"{"selector":{"sub":"alice"},"expires_in_seconds":0}"#)
            .cli(["--sub", "alice", "--expires-in", "0s"]),
        Case::new("a tested time without a cutoff", ("cutoff_on", "cutoff_on"), "cutoff")
            .grpc(pb::Revocation { cutoff_on: pb::TestedClaim::AuthTime.into(), ..revocation(&[("jti", "j")]) })
            .json(r#"{"selector":{"jti":"j"},"cutoff_on":"auth_time"}"#)
            .cli(["--jti", "j", "--cutoff-on", "auth_time"]),
        Case::new("an unknown tested time", ("cutoff_on", "cutoff_on"), "")
            .grpc(pb::Revocation { cutoff_on: 99, ..sub.clone() })
            .json(r#"{"selector":{"sub":"alice"},"cutoff_on":"nbf"}"#)
            .cli(["--sub", "alice", "--cutoff-on", "nbf"]),
        Case::new("five exceptions", ("exceptions", "exceptions"), "at most 4, 5 given")
            .grpc(pb::Revocation { exceptions: four_and_one, ..sub.clone() })
            .json(json!({ "selector": { "sub": "alice" },
                          "exceptions": [{"sid":"0"},{"sid":"1"},{"sid":"2"},{"sid":"3"},{"sid":"4"}] }))
            .cli("--sub alice --except sid=0 --except sid=1 --except sid=2 --except sid=3 --except sid=4".split(' ')),
        Case::new("a long reason", ("reason", "reason"), "at most 512 bytes, 513 given")
            .grpc(pb::Revocation { reason: "r".repeat(513), ..sub.clone() })
            .json(json!({ "selector": { "sub": "alice" }, "reason": "r".repeat(513) }))
            .cli(["--sub".to_owned(), "alice".into(), "--reason".into(), "r".repeat(513)]),
        token("a JWT of three empty parts", "..", "malformed"),
        token("a header that is not base64url", "e!0.e30.", "the header is not unpadded base64url"),
        token("a padded payload", "e30.e30=.", "the payload is not unpadded base64url"),
        token("a signature that is not base64url", "e30.e30.?", "the signature is not unpadded base64url"),
        token("a payload that is an array", &jwt(HEADER, b"[1]"), "not a JSON object"),
        token("a name twice", &jwt(HEADER, br#"{"sub":"a","s\u0075b":"b"}"#), "duplicate name"),
        token("a lone surrogate", &jwt(HEADER, br#"{"sub":"\ud800"}"#), "lone surrogate"),
        token("a payload that is not UTF-8", &jwt(HEADER, b"{\"sub\":\"\xff\"}"), "invalid UTF-8"),
        token("deep nesting", &jwt(HEADER, format!("{{\"a\":{}", "[".repeat(40)).as_bytes()), "nesting deeper than 32"),
        token("an opaque token of two lines", "two\nlines", "not printable ASCII at byte 3"),
        token("64 KiB and one byte", &"x".repeat(64 * 1024 + 1), "at most 65536 bytes, 65537 given"),
        Case::new("a value of another type", ("", "selector"), "must be a string, number or boolean, ")
            .json(r#"{"selector":{"sub":["alice"]}}"#),
        Case::new("a number that no token can match", ("", "selector"), "integral").json(r#"{"selector":{"n":1.5}}"#),
        Case::new("a selector of another type", ("", "selector"), "must be an object").json(r#"{"selector":"sub"}"#),
        Case::new("a time of another type", ("", "cutoff"), "").json(r#"{"selector":{"sub":"a"},"cutoff":1700000000}"#),
        Case::new("a time that is none", ("", "cutoff"), "RFC 3339").json(r#"{"selector":{"sub":"a"},"cutoff":"now"}"#),
        Case::new("an unknown key", ("", "subject"), "is not known")
            .json(r#"{"subject":"alice","selector":{"sub":"a"}}"#),
        Case::new("two targets", ("", ""), "only one of").json(r#"{"selector":{"sub":"a"},"token":"abc"}"#),
    ]
}

fn violations(status: &Status) -> Vec<(String, String)> {
    let details = status.get_error_details();
    let bad = details.bad_request().unwrap_or_else(|| panic!("no BadRequest: {status:?}"));
    bad.field_violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect()
}

fn problem_violations(problem: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |each: &Value| (text(&each["field"]), text(&each["description"]));
    problem["violations"].as_array().unwrap_or_else(|| panic!("no violations: {problem}")).iter().map(of).collect()
}

#[track_caller]
fn assert_names(name: &str, given: &[(String, String)], field: &str, says: &str) {
    let at = if field.is_empty() { "revocations[0]".to_owned() } else { format!("revocations[0].{field}") };
    let found = given.iter().any(|(field, description)| *field == at && description.contains(says));
    assert!(found, "{name}: expected {at}: {says:?}, given {given:?}");
}

#[track_caller]
fn assert_problem(name: &str, response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{name}: {response:?}");
    assert!(response.head.contains("content-type: application/problem+json"), "{name}: {}", response.head);
    let problem = response.json();
    assert_eq!(problem["status"], status, "{name}");
    assert!(problem["type"].is_string() && problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    problem
}

/// Runs `body` against a server and holds that nothing was changed and nobody panicked.
async fn unchanged<F: Future<Output = ()>>(server: &mut Server, caller: &Caller, body: impl FnOnce() -> F) {
    let before: Standing = caller.standing().await;
    body().await;
    assert_eq!(caller.standing().await, before);
    assert!(server.is_alive());
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}

#[tokio::test]
async fn a_revocation_that_cannot_be_names_its_field_and_changes_nothing() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    let before = caller.standing().await;
    for case in cases() {
        let name = case.name;
        if let Some(revocation) = case.grpc.clone() {
            let status = caller.revoke(vec![revocation]).await.expect_err(name);
            assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
            assert_names(name, &violations(&status), case.fields.0, case.says);
        }
        if let Some(json) = &case.json {
            let response = http::post(address, "/v1/revocations", &format!(r#"{{"revocations":[{json}]}}"#));
            let problem = assert_problem(name, &response, 400);
            assert_names(name, &problem_violations(&problem), case.fields.1, case.says);
        }
        if !case.cli.is_empty() {
            let arguments: Vec<&str> = ["revoke"].into_iter().chain(case.cli.iter().map(String::as_str)).collect();
            let output = server.cli(&arguments, b"");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{name}: {said}");
            assert!(output.stdout.is_empty() && !said.trim().is_empty(), "{name}: {said}");
        }
        assert_eq!(caller.standing().await, before, "{name}");
    }
    unchanged(&mut server, &caller, || async {}).await;
}

#[tokio::test]
async fn one_bad_element_refuses_the_whole_batch() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    unchanged(&mut server, &caller, || async {
        let batch = vec![revocation(&[("jti", "good")]), revocation(&[("jti", "")])];
        let status = caller.revoke(batch).await.unwrap_err();
        assert_eq!(violations(&status)[0].0, "revocations[1].selector.claims[0].value");
        let body = r#"{"revocations":[{"selector":{"jti":"good"}},{"selector":{"jti":""}}]}"#;
        let problem = assert_problem("batch", &http::post(address, "/v1/revocations", body), 400);
        assert_eq!(problem_violations(&problem)[0].0, "revocations[1].selector");
        let good = caller.check(claims(&json!({ "jti": "good" }))).await.unwrap();
        assert_eq!(good, Outcome::NotRevoked);
    })
    .await;
}

#[tokio::test]
async fn a_request_beyond_its_bounds_is_refused_as_a_whole() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    unchanged(&mut server, &caller, || async {
        let many: Vec<_> = (0..10_001).map(|n| revocation(&[("jti", &n.to_string())])).collect();
        let large: Vec<_> = (0..1100).map(|n| revocation(&[("jti", &format!("{n:01000}"))])).collect();
        let junk = vec![pb::Revocation { target: Some(Target::Token("x".repeat(1 << 20))), ..Default::default() }];
        for (batch, says) in [(vec![], "0 given"), (many, "10001 given"), (large, "1048576"), (junk, "1048576")] {
            let status = caller.revoke(batch).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
            let given = violations(&status);
            assert!(given[0].0 == "revocations" && given[0].1.contains(says), "{says}: {given:?}");
        }
        let large = format!(r#"{{"revocations":[{{"token":"{}"}}]}}"#, "x".repeat(1 << 20));
        let problem = assert_problem("1 MiB of junk", &http::post(address, "/v1/revocations", &large), 413);
        assert!(problem["detail"].as_str().unwrap().contains("1048576"), "{problem}");
        let request_id = "i".repeat(129);
        let request =
            pb::RevokeRequest { revocations: vec![revocation(&[("jti", "j")])], request_id, ..Default::default() };
        let status = caller.revocations().revoke(request).await.unwrap_err();
        assert_eq!(violations(&status)[0].0, "request_id");
        for count in [0, 1001] {
            let one = pb::PresentedToken { presented: Some(Presented::Token("t".into())) };
            let request = pb::CheckTokensRequest { tokens: vec![one; count], at_least: None };
            let status = caller.checks().check_tokens(request).await.unwrap_err();
            assert_eq!(violations(&status)[0].0, "tokens");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_even_a_request_is_told_apart() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    unchanged(&mut server, &caller, || async {
        let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
            http::send(address, method, path, headers, body.as_bytes()).unwrap()
        };
        let json = ("Content-Type", "application/json");
        let good = r#"{"revocations":[{"selector":{"jti":"j"}}]}"#;
        let path = "/v1/revocations";
        for (name, response, status) in [
            ("not JSON", send("POST", path, &[json], "{revocations}"), 400),
            ("cut short", send("POST", path, &[json], r#"{"revocations":["#), 400),
            ("nothing", send("POST", path, &[json], ""), 400),
            ("an array", send("POST", path, &[json], "[]"), 400),
            ("a form", send("POST", path, &[("Content-Type", "text/plain")], good), 415),
            ("no type", send("POST", path, &[], good), 415),
            ("another origin", send("POST", path, &[json, ("Origin", "https://evil.example")], good), 403),
            ("a rebound name", send("POST", path, &[json, ("Host", "evil.example")], good), 421),
            ("GET", send("GET", path, &[], ""), 405),
            ("another path", send("POST", "/v1/nothing", &[json], good), 404),
        ] {
            assert_problem(name, &response, status);
        }
    })
    .await;
}

#[tokio::test]
async fn a_thirty_third_shape_is_refused_and_the_active_ones_are_listed() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    let shapes = (0..32).map(|n| revocation(&[(&format!("claim_{n}"), "v")])).collect();
    caller.revoke(shapes).await.unwrap();
    unchanged(&mut server, &caller, || async {
        let status = caller.revoke(vec![revocation(&[("one_more", "v")])]).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains("claim_31"), "{status:?}");
        let body = r#"{"revocations":[{"selector":{"one_more":"v"}}]}"#;
        assert_problem("a 33rd shape", &http::post(address, "/v1/revocations", body), 507);
    })
    .await;
    caller.revoke(vec![revocation(&[("claim_31", "another value")])]).await.expect("an active shape is no new one");
}

#[tokio::test]
async fn a_request_id_is_for_one_request() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    let request = |jti: &str| pb::RevokeRequest {
        revocations: vec![revocation(&[("jti", jti)])],
        request_id: "id-1".into(),
        ..pb::RevokeRequest::default()
    };
    let first = caller.revocations().revoke(request("a")).await.unwrap().into_inner();
    unchanged(&mut server, &caller, || async {
        let status = caller.revocations().revoke(request("b")).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status:?}");
        let body = r#"{"revocations":[{"selector":{"jti":"b"}}],"request_id":"id-1"}"#;
        assert_problem("another body", &http::post(address, "/v1/revocations", body), 409);
        let again = caller.revocations().revoke(request("a")).await.unwrap().into_inner();
        assert!(again.repeated_request);
        assert_eq!((again.position, again.outcomes), (first.position, first.outcomes));
    })
    .await;
}

#[tokio::test]
async fn questions_that_cannot_be_answered_are_refused() {
    let mut server = Server::start();
    let (caller, address) = (Caller::new(server.listen), server.listen);
    let mut other = Server::start();
    let elsewhere = Caller::new(other.listen);
    let page = |page_token: String| pb::ListRevocationsRequest { page_size: 1, page_token, ..Default::default() };
    for caller in [&caller, &elsewhere] {
        for jti in ["a", "b"] {
            caller.revoke(vec![revocation(&[("jti", jti)])]).await.unwrap();
        }
    }
    let at_least = elsewhere.status().await.position;
    let listed = pb::ListRevocationsRequest { at_least, ..page(String::new()) };
    let foreign = elsewhere.revocations().list_revocations(listed).await.unwrap().into_inner().next_page_token;
    assert!(!foreign.is_empty());
    other.stop();
    unchanged(&mut server, &caller, || async {
        for token in [foreign, "junk".to_owned(), "é".repeat(2000)] {
            let status = caller.revocations().list_revocations(page(token.clone())).await.unwrap_err();
            assert_eq!((status.code(), violations(&status)[0].0.as_str()), (Code::InvalidArgument, "page_token"));
            let body = json!({ "page_token": token }).to_string();
            assert_problem("a page token", &http::post(address, "/v1/revocations:search", &body), 400);
        }
        let at_least = Some(pb::Position { epoch: vec![1, 2, 3], revision: 1 });
        let token = Some(pb::PresentedToken { presented: Some(Presented::Token("t".into())) });
        let request = pb::CheckTokenRequest { token, at_least };
        let status = caller.checks().check_token(request).await.unwrap_err();
        assert_eq!(violations(&status)[0].0, "at_least.epoch");
        for (id, code) in [("junk", Code::InvalidArgument), ("00000000-1-0", Code::NotFound)] {
            let request = pb::GetRevocationRequest { id: id.into(), at_least: None };
            assert_eq!(caller.revocations().get_revocation(request).await.unwrap_err().code(), code, "{id}");
        }
        let bad = jwt(HEADER, b"[]");
        let status = caller.check(Presented::Token(bad.clone())).await.unwrap_err();
        assert_eq!(violations(&status)[0].0, "token.token");
        let body = json!({ "token": bad }).to_string();
        let problem = assert_problem("check", &http::post(address, "/v1/check", &body), 400);
        assert_eq!(problem_violations(&problem)[0].0, "token");
        assert_eq!(server_cli_check(address, &bad), Some(2));
    })
    .await;
}

fn server_cli_check(address: std::net::SocketAddr, token: &str) -> Option<i32> {
    let mut command = common::server::command(&["check", "--token", token, "--server"]);
    command.arg(format!("http://{address}")).output().unwrap().status.code()
}

#[tokio::test]
async fn a_token_with_too_many_candidates_is_unknown_and_an_exact_hit_still_revokes() {
    let server = Server::start();
    let caller = Caller::new(server.listen);
    caller.revoke(vec![revocation(&[("groups", "g0")])]).await.unwrap();
    let groups = |count: usize, first: usize| {
        let groups: Vec<String> = (first..first + count).map(|n| format!("g{n}")).collect();
        claims(&json!({ "groups": groups, "exp": FAR_AHEAD, "iat": 1 }))
    };
    let too_many = Outcome::Unknown(pb::verdict::Cause::TooManyCandidates);
    assert_eq!(caller.check(groups(64, 1)).await.unwrap(), Outcome::NotRevoked);
    assert_eq!(caller.check(groups(65, 1)).await.unwrap(), too_many);
    assert_eq!(caller.check(groups(65, 0)).await.unwrap(), Outcome::Revoked);
    let body = json!({ "claims": { "payload": { "groups": (1..66).map(|n| format!("g{n}")).collect::<Vec<_>>() } } });
    let response = http::post(server.listen, "/v1/check", &body.to_string());
    assert_eq!((response.status, &response.json()["cause"]), (503, &json!("TOO_MANY_CANDIDATES")));
}

#[tokio::test]
async fn what_a_caller_could_not_see_is_never_taken_for_absent() {
    let server = Server::start();
    let caller = Caller::new(server.listen);
    caller.revoke(vec![revocation(&[("header.kid", "leaked")])]).await.unwrap();
    // A payload claim of that name is not the header.
    let incomplete = Outcome::Unknown(pb::verdict::Cause::Incomplete);
    assert_eq!(caller.check(claims(&json!({ "header.kid": "leaked" }))).await.unwrap(), incomplete);
    let seen = pb::presented_token::Claims {
        payload_json: br#"{"header.kid":"leaked"}"#.to_vec(),
        header_json: Some(br#"{"kid":"other"}"#.to_vec()),
    };
    assert_eq!(caller.check(Presented::Claims(seen)).await.unwrap(), Outcome::NotRevoked);
}
