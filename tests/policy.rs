//! The verification policy travels: applied at the authority, in force in a relay and in a service, through kill -9 and back.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::process::Output;
use std::time::Duration;

use common::agent::Agent;
use common::server::{Server, command};
use common::{guard, wait_until};
use rescind::client::Client;
use rescind::replica::{Connection, Upstream as _};
use rescind::replication::frames::{
    GoAwayReason, Hello, NodeId, ProtocolRange, Role, ToServer, ToSubscriber, WelcomeMode,
};
use tokio_stream::StreamExt as _;

const LIMIT: Duration = Duration::from_secs(20);

const FIRST: &str = "\
# Orders are read by everybody who may.
[[issuer]]
iss = \"https://idp.example\"
audiences = [\"api\"]
algorithms = [\"ES256\"]

[[class]]
name = \"orders\"
scopes = [\"orders.read\"]
";

fn second() -> String {
    FIRST.replace("orders.read", "orders.write").replace("everybody", "nobody")
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    text(output).0
}

fn refused(output: &Output, part: &str) {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(output).1.contains(part), "{part:?} is missing in {output:?}");
}

fn show(url: &str) -> Output {
    command(&["policy", "show", "--server", url]).output().unwrap()
}

/// The version and the scope of the class in a service.
fn in_service(client: &Client) -> Option<(u64, String)> {
    let now = client.verification()?;
    Some((now.version, now.policy.class("orders")?.scopes.join(" ")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_reaches_relays_and_services_and_outlives_a_kill() {
    let mut server = Server::start();
    let mut relay = Agent::prepare("relay", &[&server.url()], &[]);
    relay.start();
    let client = guard::client([relay.url.clone()]).name("orders").connect().unwrap();
    client.ready(LIMIT).await.unwrap();
    assert_eq!(client.verification(), None);
    refused(&server.cli(&["policy", "show"], b""), "no verification policy is in force");

    // What is wrong changes nothing, and is told with line and field.
    let bad = FIRST.replace("ES256", "HS256");
    refused(&server.cli(&["policy", "apply", "-"], bad.as_bytes()), "text: line 2: algorithms: each is one of RS256");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bad).unwrap();
    let checked = command(&["policy", "check", file.path().to_str().unwrap()]).output().unwrap();
    refused(&checked, "line 2: algorithms: each is one of RS256");
    let misspelt = FIRST.replace("scopes", "scope");
    refused(&server.cli(&["policy", "apply", "-"], misspelt.as_bytes()), "line 9: unknown field `scope`");
    let dry = server.cli(&["policy", "apply", "-", "--dry-run"], FIRST.as_bytes());
    assert_eq!(done(&dry), "would become version 1\n");
    refused(&server.cli(&["policy", "show"], b""), "no verification policy is in force");

    let applied = server.cli(&["policy", "apply", "-", "--expect-version=0", "--reason=begin"], FIRST.as_bytes());
    assert_eq!(done(&applied), "version 1 is in force\n");
    let one = Some((1, "orders.read".to_owned()));
    wait_until("the service has it", LIMIT, || (in_service(&client) == one).then_some(()));
    assert_eq!(done(&server.cli(&["policy", "show"], b"")), FIRST, "as it was written");
    let shown =
        wait_until("the relay shows it", LIMIT, || Some(show(&relay.url)).filter(|shown| shown.status.success()));
    let (said, beside) = text(&shown);
    assert!(said.contains("orders.read") && beside.contains("version 1"), "{shown:?}");

    // An agent names whom to ask.
    for asked in [&["revert", "1"][..], &["history"]] {
        let output = command(&[&["policy"], asked, &["--server", &relay.url]].concat()).output().unwrap();
        refused(&output, &server.url());
    }

    refused(
        &server.cli(&["policy", "apply", "-", "--expect-version=0"], second().as_bytes()),
        "version 1 is in force, not 0",
    );
    assert_eq!(done(&server.cli(&["policy", "apply", "-"], second().as_bytes())), "version 2 is in force\n");
    let two = Some((2, "orders.write".to_owned()));
    wait_until("the service has the second", LIMIT, || (in_service(&client) == two).then_some(()));

    server.kill();
    assert_eq!(in_service(&client), two, "what is known stays in force without the authority");
    server.restart();
    assert_eq!(done(&server.cli(&["policy", "show"], b"")), second());
    relay.kill();
    relay.start();
    let shown =
        wait_until("the relay is back with it", LIMIT, || Some(show(&relay.url)).filter(|s| s.status.success()));
    assert!(text(&shown).0.contains("orders.write"), "{shown:?}");

    assert_eq!(done(&server.cli(&["policy", "revert", "1", "--reason=too strict"], b"")), "version 3 is in force\n");
    let three = Some((3, "orders.read".to_owned()));
    wait_until("the service went back", LIMIT, || (in_service(&client) == three).then_some(()));
    assert_eq!(done(&server.cli(&["policy", "show"], b"")), FIRST);
    assert_eq!(done(&server.cli(&["policy", "show", "--version=2"], b"")), second());
    let history = done(&server.cli(&["policy", "history"], b""));
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines.len(), 3, "{history}");
    assert!(lines[0].starts_with("version 3") && lines[0].ends_with("reverts to 1  too strict"), "{history}");
    assert!(lines[2].ends_with("  begin"), "{history}");
    refused(
        &server.cli(&["policy", "revert", "9"], b""),
        "version 9 of the verification policy is not among the last 16",
    );
    assert_eq!(done(&server.cli(&["policy", "apply", "-"], FIRST.as_bytes())), "unchanged: version 3 says the same\n");
    client.shutdown().await;
}

/// A follower of the version before.
async fn old_follower(server: &Server, id: u8) -> Connection {
    let connection = guard::upstream(&server.url()).connect().await.unwrap();
    let protocol = ProtocolRange { min: 1, max: 1 };
    let hello = Hello { protocol, ..common::hello(NodeId([id; 16]), "old-gateway", Role::Leaf) };
    connection.outgoing.send(ToServer::Hello(Box::new(hello))).await.unwrap();
    connection
}

/// What ends a subscription; no delta with a policy may come before it.
async fn sent_away(connection: &mut Connection) -> (GoAwayReason, String) {
    let ended = async {
        loop {
            match connection.incoming.next().await.unwrap().unwrap() {
                ToSubscriber::GoAway(away) => return (away.reason, away.detail),
                ToSubscriber::Delta(frame) => {
                    let delta = rescind::revocation::Delta::decode(&frame.canonical).unwrap();
                    assert_eq!(delta.verification, None, "it could not read that");
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("it is sent away")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_version_before_is_named_and_never_misled() {
    let server = Server::start();
    let mut old = old_follower(&server, 1).await;
    let welcome = tokio::time::timeout(LIMIT, old.incoming.next()).await.unwrap().unwrap().unwrap();
    let ToSubscriber::Welcome(welcome) = welcome else { panic!("{welcome:?}") };
    assert_eq!((welcome.protocol, welcome.mode), (1, WelcomeMode::Snapshot), "without a policy it is served as ever");

    for more in [&[][..], &["--dry-run"]] {
        let output = server.cli(&[&["policy", "apply", "-"], more].concat(), FIRST.as_bytes());
        refused(&output, "1 connected members cannot follow a verification policy");
        refused(&output, "old-gateway");
    }
    refused(&server.cli(&["policy", "show"], b""), "no verification policy is in force");
    done(&server.cli(&["policy", "apply", "-", "--leave-behind"], FIRST.as_bytes()));
    let (reason, detail) = sent_away(&mut old).await;
    assert_eq!(reason, GoAwayReason::Protocol);
    assert!(detail.contains("protocol 2"), "{detail}");
    let mut again = old_follower(&server, 2).await;
    assert_eq!(sent_away(&mut again).await.0, GoAwayReason::Protocol);
}
