//! nginx, Caddy and Envoy as they are, with the configurations of deploy/: what gets through to the application, as whom, and
//! what its user is told; at the authority, at an agent that outlives it, and when nobody can tell.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::agent::Agent;
use common::gateway::{Behind, Gateway, Kind, deployed, replaced};
use common::house::{House, check_done};
use common::http::{self, Response};
use common::issuer::{ISS, TestIssuer};
use common::origin::{BODY, Origin, Reached};
use common::server::Server;
use common::wait_until;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);
const IDENTITY: [&str; 5] =
    ["x-rescind-issuer", "x-rescind-subject", "x-rescind-client-id", "x-rescind-scope", "x-rescind-expires"];

/// Values of `Authorization`.
struct Tokens {
    good: String,
    /// Of no client that it names.
    nameless: String,
    narrow: String,
    revoked: String,
    expired: String,
    forged: String,
    foreign: String,
}

impl Tokens {
    fn of(issuer: &TestIssuer) -> Self {
        let bearer = |token: String| format!("Bearer {token}");
        Self {
            good: bearer(issuer.token(&json!({ "jti": "good" }))),
            nameless: bearer(issuer.token(&json!({ "client_id": null, "jti": "nameless" }))),
            narrow: bearer(issuer.token(&json!({ "scope": "profile", "jti": "narrow" }))),
            revoked: bearer(issuer.token(&json!({ "jti": "revoked" }))),
            expired: bearer(issuer.token(&json!({ "iat": 1_700_000_000, "exp": 1_700_000_600, "jti": "expired" }))),
            forged: bearer(TestIssuer::new().token(&json!({ "jti": "forged" }))),
            foreign: bearer(issuer.token(&json!({ "aud": "payroll", "jti": "foreign" }))),
        }
    }
}

/// Who applied what, behind which all gateways stand.
struct Stage {
    issuer: TestIssuer,
    tokens: Tokens,
    origin: Origin,
}

impl Stage {
    fn new() -> Self {
        let issuer = TestIssuer::new();
        let tokens = Tokens::of(&issuer);
        Self { issuer, tokens, origin: Origin::start() }
    }

    /// The policy of deploy/, with this issuer's keys.
    fn policy(&self) -> String {
        replaced(deployed("policy.toml"), &[("/etc/rescind/idp.jwks", &self.issuer.jwks().display().to_string())])
    }

    fn gateway(&self, kind: Kind, node: SocketAddr, credential: Option<&str>) -> Option<Gateway> {
        let jwks = self.issuer.jwks();
        let gateway = Gateway::start(kind, Behind { node, credential, app: self.origin.listen, jwks: &jwks })?;
        self.origin.take();
        Some(gateway)
    }

    /// What a node says to this token without a gateway.
    fn node_says(&self, node: SocketAddr, token: &str) -> Option<u16> {
        Some(http::send(node, "GET", "/authz?class=orders", &[("Authorization", token)], b"").ok()?.status)
    }

    /// Waits until a node has the policy, the keys and the revocation.
    fn wait_informed(&self, node: SocketAddr) {
        for (token, status) in [(&self.tokens.good, 200), (&self.tokens.revoked, 401)] {
            wait_until(&format!("{status} at {node}"), LIMIT, || {
                (self.node_says(node, token) == Some(status)).then_some(())
            });
        }
    }
}

/// What one gateway does in front of the application.
struct Scene<'a> {
    stage: &'a Stage,
    gateway: &'a Gateway,
    said: &'a str,
}

impl Scene<'_> {
    /// The request reaches the application once, from the one whose token it brought.
    fn passes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reached {
        let said = format!("{}: {method} {path} {headers:?}", self.said);
        let answer = self.gateway.send(method, path, headers, body).unwrap_or_else(|| panic!("{said}: no answer"));
        assert_eq!((answer.status, answer.body.as_str()), (200, BODY), "{said}");
        let mut reached = self.stage.origin.take();
        assert_eq!(reached.len(), 1, "{said}");
        assert_own_identity(&reached[0], &said);
        reached.remove(0)
    }

    /// The request does not reach the application.
    fn is_stopped(&self, path: &str, headers: &[(&str, &str)]) -> Option<Response> {
        let short: Vec<_> = headers.iter().map(|(name, value)| (name, &value[..value.len().min(60)])).collect();
        let answer = self.gateway.send("GET", path, headers, b"");
        let reached = self.stage.origin.take();
        assert!(reached.is_empty(), "{}: {path} {short:?}: {reached:?}", self.said);
        answer
    }

    fn is_denied(&self, what: &str, headers: &[(&str, &str)], status: u16, error: Option<&str>) {
        let answer = self.is_stopped("/orders/7", headers).unwrap();
        let said = format!("{}: {what}: {answer:?}", self.said);
        assert_eq!(answer.status, status, "{said}");
        let challenges: Vec<&str> =
            answer.head.lines().filter_map(|line| line.strip_prefix("www-authenticate: ")).collect();
        assert_eq!(challenges.len(), 1, "one challenge (RFC 9110 §11.6.1): {said}");
        assert!(challenges[0].starts_with("bearer realm="), "{said}");
        match error {
            Some(error) => assert!(challenges[0].contains(&format!("error=\"{error}\"")), "{said}"),
            None => assert!(!challenges[0].contains("error="), "{said}"),
        }
    }

    /// Whatever a token can be.
    fn tokens_of_all_kinds(&self) {
        let Tokens { good, narrow, revoked, expired, forged, foreign, .. } = &self.stage.tokens;
        let kind = self.gateway.kind;
        let reached = self.passes("GET", "/orders/7", &[("Authorization", good)], b"");
        let value = |name| reached.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(IDENTITY.map(value)[..4], [Some(ISS), Some("ada"), Some("shop"), Some("orders.read")]);
        assert!(value("x-rescind-expires").unwrap().parse::<u64>().is_ok());
        assert_eq!(value("authorization"), Some(good.as_str()), "the application can look at it, too");

        self.is_denied("revoked", &[("Authorization", revoked)], 401, Some("invalid_token"));
        self.is_denied("narrow", &[("Authorization", narrow)], 403, Some("insufficient_scope"));
        let by_itself = kind == Kind::EnvoyJwtAuthn;
        for (what, token) in [("expired", expired), ("forged", forged)] {
            self.is_denied(what, &[("Authorization", token)], 401, Some("invalid_token"));
        }
        // Envoy's own filter answers 403 for an audience.
        let of_audience = if by_itself { 403 } else { 401 };
        self.is_denied("foreign", &[("Authorization", foreign)], of_audience, Some("invalid_token"));
        self.is_denied("opaque", &[("Authorization", "Bearer opaque")], 401, Some("invalid_token"));
        self.is_denied("missing", &[], 401, None);
        self.is_denied("another scheme", &[("Authorization", "Basic YTpi")], 401, None);
        // nginx and Caddy hand 401 on, and Envoy what RFC 6750 wants.
        let malformed = if kind == Kind::Envoy { 400 } else { 401 };
        let error = if by_itself { "invalid_token" } else { "invalid_request" };
        self.is_denied("malformed", &[("Authorization", "Bearer a b")], malformed, Some(error));

        // Two tokens are none, whichever is good.
        for pair in [[good, revoked], [revoked, good]] {
            let answer = self.is_stopped("/orders/7", &pair.map(|token| ("Authorization", token.as_str()))).unwrap();
            assert!([400, 401].contains(&answer.status), "{}: {answer:?}", self.said);
        }
        let answer = self.is_stopped("/admin/", &[("Authorization", good)]).unwrap();
        assert_eq!(answer.status, 403, "{}: each route asks for its own class: {answer:?}", self.said);
    }

    /// What a user sends to be taken for somebody else.
    fn disguises(&self) {
        let Tokens { good, nameless, .. } = &self.stage.tokens;
        let authorization = ("Authorization", nameless.as_str());
        let lies: Vec<(&str, &str)> = IDENTITY.iter().map(|name| (*name, "eve")).collect();
        let reached = self.passes("GET", "/orders/7", &[&[authorization][..], &lies].concat(), b"");
        let client = reached.headers.get("x-rescind-client-id");
        assert!(client.is_none_or(|client| client.is_empty()), "{}: {client:?}", self.said);
        self.passes("GET", "/public/7", &lies, b"");
        let twice = [("X-Rescind-Subject", "eve"), ("X-Rescind-Subject", "eve"), ("Authorization", good)];
        self.passes("GET", "/orders/7", &twice, b"");
        // Refused, or seen through.
        for lie in [("X_Rescind_Subject", "eve"), ("Connection", "X-Rescind-Subject")] {
            for path in ["/orders/7", "/public/7"] {
                let answer = self.gateway.send("GET", path, &[("Authorization", good), lie], b"").unwrap();
                let reached = self.stage.origin.take();
                let said = format!("{}: {path} {lie:?}: {} {reached:?}", self.said, answer.status);
                match answer.status {
                    200 if path == "/orders/7" => assert_eq!(reached[0].headers["x-rescind-subject"], "ada", "{said}"),
                    200 => {}
                    status => assert_eq!((status, reached.len()), (400, 0), "{said}"),
                }
                reached.iter().for_each(|reached| assert_own_identity(reached, &said));
            }
        }
        // What is public is not a way to what is not.
        for path in ["/public/../orders/7", "/public/%2e%2e/orders/7", "/public/..%2forders/7", "//orders/7", "/"] {
            let answer = self.is_stopped(path, &[]).unwrap();
            assert!(answer.status >= 300, "{}: {path}: {answer:?}", self.said);
        }
    }

    /// What gateways themselves make of requests that are odd.
    fn sizes_and_bodies(&self) {
        let good = ("Authorization", self.stage.tokens.good.as_str());
        let body = vec![b'x'; 100_000];
        let reached = self.passes("POST", "/orders/", &[good], &body);
        assert_eq!((reached.method.as_str(), reached.path.as_str()), ("POST", "/orders/"), "{}", self.said);
        assert_eq!(reached.body, body, "{}: nothing of it is lost on the way past Rescind", self.said);
        let mib = "x".repeat(1 << 20);
        for header in [("X-Large", mib.as_str()), ("Authorization", &format!("Bearer {mib}"))] {
            if let Some(answer) = self.is_stopped("/orders/7", &[header]) {
                // Caddy itself takes so much and hands it on, and Rescind does not take it.
                let is_refused = (400..500).contains(&answer.status);
                assert!(is_refused || (self.gateway.kind, answer.status) == (Kind::Caddy, 502), "{answer:?}");
            }
        }
    }

    fn http_2(&self) {
        let Tokens { good, revoked, .. } = &self.stage.tokens;
        for (token, status) in [(good, 200), (revoked, 401)] {
            let said = format!("{}: HTTP/2: {status}", self.said);
            assert_eq!(self.gateway.get_h2("/orders/7", &[("authorization", token)]), status, "{said}");
            let reached = self.stage.origin.take();
            assert_eq!(reached.len(), usize::from(status == 200), "{said}");
            reached.iter().for_each(|reached| assert_own_identity(reached, &said));
        }
    }

    /// When nobody answers for a token.
    fn is_closed(&self, statuses: &[u16]) {
        for headers in [&[("Authorization", self.stage.tokens.good.as_str())][..], &[]] {
            let answer = self.is_stopped("/orders/7", headers).unwrap();
            assert!(statuses.contains(&answer.status), "{}: {answer:?}", self.said);
        }
        self.passes("GET", "/public/7", &[], b"");
    }
}

/// What says who the user is, also to an application that takes `_` for `-`, is not what he said.
fn assert_own_identity(reached: &Reached, said: &str) {
    for (name, value) in &reached.headers {
        let name = name.as_str().replace('_', "-");
        assert!(!IDENTITY.contains(&name.as_str()) || value != "eve", "{said}: {name} is what the user sent");
    }
}

fn check(kind: Kind) {
    let stage = Stage::new();
    let mut server = Server::start();
    check_done(&server.cli(&["policy", "apply", "-"], stage.policy().as_bytes()));
    check_done(&server.cli(&["revoke", "--iss", ISS, "--jti", "revoked"], b""));
    let mut agent = Agent::prepare("gateway", &[&server.url()], &[]);
    let mut strict = Agent::prepare("strict", &[&server.url()], &["--max-staleness", "5s", "--when-stale", "deny"]);
    agent.start();
    strict.start();
    for node in [server.direct, agent.direct.unwrap(), strict.direct.unwrap()] {
        stage.wait_informed(node);
    }
    let Some(gateway) = stage.gateway(kind, server.direct, None) else { return };
    let scene = Scene { stage: &stage, gateway: &gateway, said: "at the authority" };
    scene.tokens_of_all_kinds();
    scene.disguises();
    scene.sizes_and_bodies();
    scene.http_2();

    server.kill();
    // nginx makes 500 of what Rescind does not answer, and its configuration 503; Caddy says 502.
    scene.is_closed(if kind == Kind::Caddy { &[502] } else { &[503, 401] });
    drop(gateway);
    let gateway = stage.gateway(kind, agent.direct.unwrap(), None).unwrap();
    let scene = Scene { stage: &stage, gateway: &gateway, said: "at an agent whose authority is gone" };
    scene.tokens_of_all_kinds();
    scene.disguises();
    scene.http_2();
    drop(gateway);

    wait_until("the agent is stale", LIMIT, || {
        (stage.node_says(strict.direct.unwrap(), &stage.tokens.good) == Some(503)).then_some(())
    });
    let gateway = stage.gateway(kind, strict.direct.unwrap(), None).unwrap();
    let scene = Scene { stage: &stage, gateway: &gateway, said: "at a stale agent" };
    let unknown = if kind == Kind::Nginx { 403 } else { 503 };
    let answer = scene.is_stopped("/orders/7", &[("Authorization", &stage.tokens.good)]).unwrap();
    assert_eq!(answer.status, unknown, "{answer:?}");
    let answer = scene.is_stopped("/orders/7", &[("Authorization", &stage.tokens.revoked)]).unwrap();
    assert_eq!(answer.status, 401, "what is known to be revoked stays so: {answer:?}");
}

#[test]
fn nginx_lets_only_good_tokens_through() {
    check(Kind::Nginx);
}

#[test]
fn caddy_lets_only_good_tokens_through() {
    check(Kind::Caddy);
}

#[test]
fn envoy_lets_only_good_tokens_through() {
    check(Kind::Envoy);
}

#[test]
fn envoy_that_verifies_tokens_lets_only_good_ones_through() {
    check(Kind::EnvoyJwtAuthn);
}

#[test]
fn gateways_with_a_credential_hand_on_whose_token_it_is() {
    let stage = Stage::new();
    let mut house = House::open(&[("gateway", "check")]);
    let policy = house.keep("policy.toml", &stage.policy());
    check_done(&house.admin(&["policy", "apply", policy.to_str().unwrap()]));
    check_done(&house.admin(&["revoke", "--iss", ISS, "--jti", "revoked"]));
    let credential = house.minted("gateway").text.to_string();
    for kind in [Kind::Nginx, Kind::Caddy, Kind::Envoy] {
        let node = house.server.direct;
        let Some(gateway) = stage.gateway(kind, node, Some(&credential)) else { continue };
        let scene = Scene { stage: &stage, gateway: &gateway, said: &format!("{kind:?} with a credential") };
        scene.tokens_of_all_kinds();
        // The user's place for a token is not where a gateway puts it.
        let forwarded = [("X-Forwarded-Authorization", stage.tokens.good.as_str())];
        scene.is_denied("forwarded by the user", &forwarded, 401, None);
        drop(gateway);
        let gateway = stage.gateway(kind, node, None).unwrap();
        let scene = Scene { stage: &stage, gateway: &gateway, said: &format!("{kind:?} without its credential") };
        let answer = scene.is_stopped("/orders/7", &[("Authorization", &stage.tokens.good)]).unwrap();
        assert!([401, 403, 503].contains(&answer.status), "{answer:?}");
    }
}
