//! What asking Rescind costs a gateway: at a local agent over gRPC, through a real Envoy, and through a real nginx.
//!
//! Everything is on one machine: what loads, what is loaded and the application share its cores. So rates are lower bounds, and
//! what a request costs the agent is told as the time that its threads ran.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

#[path = "../../tests/common/mod.rs"]
mod common;
mod load;
#[path = "../table/mod.rs"]
mod table;

use std::net::SocketAddr;
use std::time::Duration;

use common::agent::Agent;
use common::caller::{Caller, revocation};
use common::gateway::{Behind, Gateway, Kind, deployed, replaced};
use common::issuer::{ISS, TestIssuer};
use common::origin::Origin;
use common::server::Server;
use common::wait_until;
use serde_json::json;
use table::{Target, row};

/// Revocations in force, each of one token.
const ENTRIES: usize = 1_000_000;
/// Of them in one request.
const BATCH: usize = 10_000;
/// Different tokens that are asked about.
const TOKENS: usize = 1_000;
const LOADED_LIMIT: Duration = Duration::from_secs(120);

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (issuer, origin, server) = (TestIssuer::new(), Origin::start(), Server::start());
    runtime.block_on(revoke_many(server.direct));
    let jwks = issuer.jwks();
    let policy = replaced(deployed("policy.toml"), &[("/etc/rescind/idp.jwks", &jwks.display().to_string())]);
    assert!(server.cli(&["policy", "apply", "-"], policy.as_bytes()).status.success());
    let mut agent = Agent::prepare("gateway", &[&server.url()], &[]);
    agent.start();
    let node = agent.direct.unwrap();
    let tokens: Vec<String> =
        (0..TOKENS).map(|n| format!("Bearer {}", issuer.token(&json!({ "jti": format!("good-{n}") })))).collect();
    wait_until("the agent has all", LOADED_LIMIT, || {
        let asked = common::http::send(node, "GET", "/authz?class=orders", &[("Authorization", &tokens[0])], b"");
        (asked.ok()?.status == 200 && agent.metric("rescind_live_entries") >= ENTRIES as f64).then_some(())
    });

    let direct = runtime.block_on(load::ext_authz(node, &tokens));
    row("ext_authz at a local agent, 1M entries, 2,000/s, p50", direct.p50, " ms", Target::None);
    row("the same, p99", direct.p99, " ms", Target::AtMost(1.0));

    let start = |kind| Gateway::start(kind, Behind { node, credential: None, app: origin.listen, jwks: &jwks });
    if let Some(envoy) = start(Kind::Envoy) {
        let [without, with] =
            ["/public/", "/orders/"].map(|path| runtime.block_on(load::paced(envoy.listen, path, &tokens)));
        row("through Envoy, 200/s, without ext_authz, p50", without.p50, " ms", Target::None);
        row("added by ext_authz, p50", with.p50 - without.p50, " ms", Target::None);
        row("added by ext_authz, p99", with.p99 - without.p99, " ms", Target::None);
    }
    if let Some(nginx) = start(Kind::Nginx) {
        let before = ran(agent.pid());
        let without = runtime.block_on(load::closed(nginx.listen, "/public/", &tokens));
        assert!(ran(agent.pid()) - before < 1.0, "nobody asked the agent");
        let before = ran(agent.pid());
        let with = runtime.block_on(load::closed(nginx.listen, "/orders/", &tokens));
        let share = (ran(agent.pid()) - before) / load::CLOSED.as_secs_f64();
        row("nginx, one worker, requests/s without auth_request", without, "", Target::None);
        row("with it", with, "", Target::None);
        row("the agent's share then, of one core", share * 100.0, " %", Target::None);
        row("the agent, for one request", share * 1e6 / with, " us", Target::None);
    }
    origin.take();
}

async fn revoke_many(server: SocketAddr) {
    let caller = Caller::new(server);
    for first in (0..ENTRIES).step_by(BATCH) {
        let batch = (first..first + BATCH).map(|n| revocation(&[("iss", ISS), ("jti", &format!("gone-{n}"))]));
        caller.revoke(batch.collect()).await.unwrap();
    }
}

/// How long the threads of a process ran, in seconds: user and system.
fn ran(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() as f64 / 1e9
}
