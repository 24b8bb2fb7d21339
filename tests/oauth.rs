//! OAuth's own parties at a real server and a real agent: oidc-provider makes the tokens, Authlib introspects and revokes them.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use common::agent::Agent;
use common::pki::TestAuthority;
use common::provider::{Issuer, OAuthClient};
use common::server::{Server, command};
use common::wait_until;
use rescind::security::credential::{Minted, mint};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);
const ORDERS: &str = "https://orders.example";
const RESCIND: &str = "https://rescind.example";

/// A server over TLS that knows a resource server, a login server and an administrator, and trusts the provider for others.
struct House {
    authority: TestAuthority,
    issuer: Issuer,
    client: OAuthClient,
    server: Server,
    resource: Minted,
    login: Minted,
    config: PathBuf,
    admin: PathBuf,
}

impl House {
    fn open(trusts_tokens: bool) -> Option<Self> {
        let authority = TestAuthority::new("test authority");
        let client = OAuthClient::trusting(&authority)?;
        let issuer = Issuer::start(&authority)?;
        let [resource, login, admin] = [(); 3].map(|()| mint().unwrap());
        let mut principals = String::new();
        for (name, minted, role) in
            [("api server", &resource, "introspect"), ("login", &login, "revoke"), ("ops", &admin, "admin")]
        {
            let hashed = minted.hashed();
            principals += &format!("[[principal]]\nname = '{name}'\ncredential = '{hashed}'\nroles = ['{role}']\n");
        }
        if trusts_tokens {
            let iss = issuer.url();
            principals += &format!(
                "[[jwt]]\nname = 'idp'\nissuer = '{iss}'\naudience = '{RESCIND}'\nalgorithms = ['ES256']\nclaim = 'scope'\n\
                 [[jwt.map]]\nvalue = 'rescind.admin'\nroles = ['admin']\n\
                 [[jwt.map]]\nvalue = 'rescind.check'\nroles = ['check']\n"
            );
        }
        let (principals, own) =
            (authority.write("principals.toml", principals), authority.issue("rescind", &["localhost", "127.0.0.1"]));
        let admin = authority.write("admin.credential", admin.text.as_str());
        std::fs::set_permissions(&admin, std::fs::Permissions::from_mode(0o600)).unwrap();
        let ca = authority.ca();
        let config = authority.write(
            "rescind.toml",
            format!(
                "[tls]\ncertificate = '{}'\nprivate_key = '{}'\n[authentication]\nprincipals = '{}'\n[verification]\nissuer_ca = '{}'\n\
                 [oauth]\npublic_url = '{RESCIND}'\n[upstream]\nca = '{}'\ncredential_file = '{}'\n",
                own.certificate.display(),
                own.private_key.display(),
                principals.display(),
                ca.display(),
                ca.display(),
                admin.display()
            ),
        );
        let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
        let house = Self { authority, issuer, client, server, resource, login, config, admin };
        house.apply();
        Some(house)
    }

    /// The policy that trusts the provider for two audiences.
    fn apply(&self) {
        let policy = self.authority.write(
            "policy.toml",
            format!(
                "[[issuer]]\niss = '{}'\naudiences = ['{ORDERS}', '{RESCIND}']\nalgorithms = ['ES256']\n\
                 [[class]]\nname = 'orders'\nscopes = ['orders.read']\naudiences = ['{ORDERS}']\n",
                self.issuer.url()
            ),
        );
        let mut apply = command(&["policy", "apply", policy.to_str().unwrap(), "--server", &self.url()]);
        apply.arg("--ca-file").arg(self.authority.ca()).arg("--credential-file").arg(&self.admin);
        let output = apply.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn url(&self) -> String {
        format!("https://{}", self.server.direct)
    }

    /// An access token of the provider.
    fn token(&self, client: &str, scope: &str, resource: &str) -> String {
        let (url, secret) = (format!("{}/token", self.issuer.url()), format!("{client}-secret"));
        let with = json!({ "url": url, "client": client, "secret": secret, "scope": scope, "resource": resource });
        self.client.ask("token", with)["token"].as_str().unwrap().to_owned()
    }

    fn shop(&self) -> String {
        self.token("shop", "orders.read", ORDERS)
    }

    fn introspect(&self, at: &str, token: &str, more: Value) -> Value {
        let mut with = json!({
            "url": format!("{at}/oauth2/introspect"), "client": "api server", "secret": *self.resource.text, "token": token,
        });
        with.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.client.ask("introspect", with)
    }

    fn is_active(&self, at: &str, token: &str) -> bool {
        let answer = self.introspect(at, token, json!({}));
        assert_eq!(answer["status"], 200, "{answer}");
        let is_active = answer["body"]["active"].as_bool().unwrap();
        assert!(is_active || answer["body"] == json!({ "active": false }), "{answer}");
        is_active
    }

    fn revoke(&self, at: &str, token: &str) -> Value {
        let url = format!("{at}/oauth2/revoke");
        self.client.ask("revoke", json!({ "url": url, "client": "login", "secret": *self.login.text, "token": token }))
    }

    fn check(&self, at: &str, bearer: &str, token: &str) -> Value {
        self.client.ask("check", json!({ "url": format!("{at}/v1/check"), "bearer": bearer, "token": token }))
    }

    /// Turns the provider; how often its keys were fetched.
    fn turn(&self, how: &str) -> u64 {
        let answer = self.client.ask("turn", json!({ "url": format!("{}/test/{how}", self.issuer.url()) }));
        answer["body"]["asked"].as_u64().unwrap()
    }

    fn agent(&self) -> Agent {
        let mut agent = Agent::prepare("edge", &[&self.url()], &["--config", self.config.to_str().unwrap()]);
        agent.start();
        agent
    }
}

fn agent_url(agent: &Agent) -> String {
    format!("https://{}", agent.direct.unwrap())
}

/// The same token with another signature.
fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", &signature[1..])
}

#[test]
fn a_token_of_a_provider_is_active_until_an_oauth_client_revokes_it_and_then_nowhere() {
    let Some(house) = House::open(true) else { return };
    let agent = house.agent();
    let places = [house.url(), agent_url(&agent)];
    let (token, other) = (house.shop(), house.shop());
    for at in &places {
        wait_until("the policy and the keys are there", LIMIT, || {
            house.introspect(at, &token, json!({}))["body"]["active"].as_bool().filter(|is_active| *is_active)
        });
        let told = &house.introspect(at, &token, json!({ "class": "orders" }))["body"];
        assert_eq!((&told["active"], &told["token_type"]), (&true.into(), &"Bearer".into()), "{told}");
        assert_eq!((&told["client_id"], &told["scope"]), (&"shop".into(), &"orders.read".into()), "{told}");
        assert_eq!((&told["iss"], &told["aud"]), (&house.issuer.url().into(), &ORDERS.into()), "{told}");
        assert!(told["jti"].is_string() && told["exp"].is_u64(), "{told}");
        for bad in [forged(&token), "opaque".to_owned(), "a.b.c".to_owned()] {
            assert!(!house.is_active(at, &bad), "{bad}");
        }
        let elsewhere = house.token("operator", "rescind.check", RESCIND);
        assert!(house.is_active(at, &elsewhere));
        assert_eq!(house.introspect(at, &elsewhere, json!({ "class": "orders" }))["body"], json!({ "active": false }));
        assert_eq!(house.introspect(at, &token, json!({ "class": "nothing" }))["status"], 503);
    }

    let refused = house.revoke(&places[1], &token);
    assert_eq!(refused["status"], 421, "{refused}");
    let said = refused["body"]["error_description"].as_str().unwrap();
    assert!(said.contains(&house.server.direct.to_string()), "{said}");
    assert_eq!(house.revoke(&places[0], "opaque")["body"]["error"], "unsupported_token_type");
    for ignored in [forged(&token).as_str(), "a.b.c"] {
        assert_eq!(house.revoke(&places[0], ignored)["status"], 200, "{ignored}");
    }
    assert!(house.is_active(&places[0], &token), "of a forged token nothing is written");

    for _ in 0..2 {
        let done = house.revoke(&places[0], &token);
        assert_eq!((&done["status"], &done["body"]), (&200.into(), &"".into()), "{done}");
    }
    let admin = std::fs::read_to_string(&house.admin).unwrap();
    for at in &places {
        wait_until("the revocation is there", LIMIT, || (!house.is_active(at, &token)).then_some(()));
        assert!(house.is_active(at, &other), "another token of the same client");
        for (token, outcome) in [(&token, "revoked"), (&other, "not_revoked")] {
            let answer = house.check(at, &admin, token);
            assert_eq!(answer["status"], 200, "{answer}");
            assert!(answer["body"].to_string().contains(&format!("\"{outcome}\"")), "{outcome}: {answer}");
        }
    }

    for (at, has_revocation) in [(&places[0], true), (&places[1], false)] {
        let url = format!("{at}/.well-known/oauth-authorization-server");
        let document = &house.client.ask("metadata", json!({ "url": url }))["body"];
        assert_eq!(document["introspection_endpoint"], format!("{RESCIND}/oauth2/introspect"), "{document}");
        assert_eq!(document["revocation_endpoint"].is_string(), has_revocation, "{document}");
    }
}

#[test]
fn a_bearer_of_a_token_is_a_principal_until_that_is_revoked_on_the_server_and_the_agent() {
    let Some(house) = House::open(true) else { return };
    let agent = house.agent();
    let places = [house.url(), agent_url(&agent)];
    let (asked, operator) = (house.shop(), house.token("operator", "rescind.check", RESCIND));
    // The door waits for its issuer's keys; the policy takes its way to the agent.
    for at in &places {
        assert_eq!(house.check(at, &operator, &asked)["status"], 200, "let in by a scope");
        for (bearer, status) in [(&asked, 401), (&forged(&operator), 401)] {
            let answer = house.check(at, bearer, &asked);
            assert_eq!(answer["status"], status, "{answer}");
        }
        let url = format!("{at}/oauth2/introspect");
        let with = json!({ "url": url, "client": "jwt:idp/operator", "secret": operator, "token": asked });
        assert_eq!(house.client.ask("introspect", with)["status"], 401, "a token is no client secret");
    }
    assert_eq!(house.revoke(&places[0], &operator)["status"], 200);
    for at in &places {
        wait_until("the bearer is nobody", LIMIT, || {
            let answer = house.check(at, &operator, &asked);
            (answer["status"] == 401).then_some(())
        });
    }
}

#[test]
fn keys_follow_their_provider_and_outlive_it() {
    let Some(mut house) = House::open(false) else { return };
    let at = house.url();
    let first = house.shop();
    wait_until("the keys are there", LIMIT, || {
        house.introspect(&at, &first, json!({}))["body"]["active"].as_bool().filter(|is_active| *is_active)
    });

    let before = house.turn("rotate");
    let second = house.shop();
    wait_until("the new key is fetched", LIMIT, || house.is_active(&at, &second).then_some(()));
    assert_eq!(house.turn("asked"), before + 1, "by one request");
    assert!(house.is_active(&at, &first), "the old key is still published");

    house.turn("rotate");
    let third = house.shop();
    house.turn("slow?ms=60000");
    // Whoever asks may wait for a new key for a while; whoever has a known one never does.
    for _ in 0..3 {
        let answer = house.introspect(&at, &third, json!({}));
        assert_eq!(answer["body"], json!({ "active": false }), "{answer}");
        assert!(answer["seconds"].as_f64().unwrap() < 5.0, "{answer}");
        assert!(house.is_active(&at, &second));
    }
    house.turn("slow?ms=0");
    wait_until("the slow provider is asked again", LIMIT, || house.is_active(&at, &third).then_some(()));

    house.issuer.kill();
    for token in [&first, &second, &third] {
        assert!(house.is_active(&at, token), "the last good keys stay");
    }
    assert_eq!(house.revoke(&at, &third)["status"], 200);
    assert!(!house.is_active(&at, &third));
}
