//! Subscribers that may not, or no longer, follow: how each is sent away, and what becomes of those who were.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::agent::Agent;
use common::house::{House, check_done};
use common::server::command;
use common::{http, metric, wait_until};
use rescind::client::Client;
use rescind::clock::Clock;
use rescind::replica::{Connection, Event, Upstream as _, UpstreamError};
use rescind::replication::FollowerStatus;
use rescind::replication::frames::{GoAway, GoAwayReason, NodeId, Role, ToServer, ToSubscriber, Welcome};
use rescind::revocation::{UnknownCause, Verdict, WhenStale};
use rescind::security::credential::mint;
use tokio_stream::StreamExt as _;

const LIMIT: Duration = Duration::from_secs(20);
/// A right that is taken by a call, or told by a signal, is gone by then.
const AT_ONCE: Duration = Duration::from_secs(3);
const NOT_ACCEPTED: &str = "what was presented is not accepted here";

/// One subscription by hand.
struct Subscription(Connection);

impl Subscription {
    /// Says Hello as member `id`.
    async fn begin(house: &House, credential: &Path, id: u8, role: Role) -> Self {
        let connection = house.upstream(credential).connect().await.unwrap();
        let hello = common::hello(NodeId([id; 16]), &format!("member {id}"), role);
        connection.outgoing.send(ToServer::Hello(Box::new(hello))).await.unwrap();
        Self(connection)
    }

    /// The same, and waits for Welcome.
    async fn follow(house: &House, credential: &Path, id: u8, role: Role) -> Self {
        let mut subscription = Self::begin(house, credential, id, role).await;
        subscription.welcome().await;
        subscription
    }

    async fn next(&mut self) -> Option<Result<ToSubscriber, UpstreamError>> {
        tokio::time::timeout(LIMIT, self.0.incoming.next()).await.expect("the server says something")
    }

    async fn welcome(&mut self) -> Welcome {
        match self.next().await {
            Some(Ok(ToSubscriber::Welcome(welcome))) => *welcome,
            other => panic!("{other:?}"),
        }
    }

    /// How it is sent away, after whatever comes before; nothing comes after.
    async fn sent_away(&mut self, within: Duration) -> GoAway {
        let away = async {
            loop {
                match self.next().await {
                    Some(Ok(ToSubscriber::GoAway(away))) => return away,
                    Some(Ok(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let away = tokio::time::timeout(within, away).await.expect("it is sent away");
        assert!(self.next().await.is_none());
        away
    }

    /// It is sent away as denied, with these words.
    async fn denied(&mut self, within: Duration, detail: &str) {
        let away = self.sent_away(within).await;
        assert_eq!((away.reason, away.detail.as_str()), (GoAwayReason::Denied, detail));
    }

    /// Why it is not even let in.
    async fn refused(&mut self) -> String {
        match self.next().await {
            Some(Err(UpstreamError::Refused(why))) => why,
            other => panic!("{other:?}"),
        }
    }

    /// A goodbye.
    async fn leave(self) {
        let Self(Connection { outgoing, mut incoming }) = self;
        drop(outgoing);
        let rest = async { while incoming.next().await.is_some() {} };
        tokio::time::timeout(LIMIT, rest).await.expect("the server ends its side");
    }

    /// It is still fed: a word comes that the authority said from now on.
    async fn is_fed(&mut self) {
        let now = Clock::system().wall();
        loop {
            match self.next().await {
                Some(Ok(ToSubscriber::Heartbeat(heartbeat))) if heartbeat.source_time > now => return,
                Some(Ok(ToSubscriber::GoAway(away))) => panic!("{away:?}"),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn denied_subscribers(house: &House) -> f64 {
    metric(house.server.ops, "rescind_subscribers_sent_away_total{reason=\"denied\"}")
}

fn denied_requests(house: &House, reason: &str) -> f64 {
    metric(house.server.ops, &format!("rescind_requests_denied_total{{reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_taken_out_of_the_file_is_sent_away_and_nobody_else_is() {
    let all = [("one", "subscribe"), ("two", "subscribe"), ("three", "relay")];
    let mut house = House::open(&all);
    let [one, two, three] = ["one", "two", "three"].map(|name| house.credential(name));
    let mut first = Subscription::follow(&house, &one, 1, Role::Leaf).await;
    let mut second = Subscription::follow(&house, &two, 2, Role::Leaf).await;
    let mut third = Subscription::follow(&house, &three, 3, Role::Relay).await;
    house.let_in(&all[1..], true);
    first.denied(AT_ONCE, NOT_ACCEPTED).await;
    let refused = Subscription::begin(&house, &one, 1, Role::Leaf).await.refused().await;
    assert_eq!(refused, format!("Unauthenticated: {NOT_ACCEPTED}"));
    // He is still known, but as one who may follow and not pass on. Nobody tells the server: it looks.
    house.let_in(&[all[1], ("three", "subscribe")], false);
    third.denied(LIMIT, "this needs the role relay; \"three\" has subscribe").await;
    second.is_fed().await;
    assert_eq!(denied_subscribers(&house), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_its_credential() {
    let mut house = House::open(&[]);
    let clock = Clock::system();
    let (kept, revoked) =
        (house.create("kept", &["--role", "subscribe"]), house.create("taken", &["--role", "subscribe"]));
    let begun = clock.boot();
    let brief = house.create("brief", &["--role", "subscribe", "--expires-in", "3s"]);
    let mut brief = Subscription::follow(&house, &brief, 1, Role::Leaf).await;
    let mut kept = Subscription::follow(&house, &kept, 2, Role::Leaf).await;
    let mut taken = Subscription::follow(&house, &revoked, 3, Role::Leaf).await;
    check_done(&house.admin(&["credential", "revoke", "--name", "taken"]));
    taken.denied(AT_ONCE, NOT_ACCEPTED).await;
    let again = Subscription::begin(&house, &revoked, 3, Role::Leaf).await.refused().await;
    assert_eq!(again, format!("Unauthenticated: {NOT_ACCEPTED}"));
    brief.denied(LIMIT, "the credential has expired").await;
    // Expiries are of whole seconds.
    assert!(clock.boot().since(begun) >= Duration::from_secs(2), "it was good for three seconds");
    kept.is_fed().await;
    assert_eq!(denied_subscribers(&house), 2.0);
    assert!(denied_requests(&house, "expired") >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_follow_may_not_call_himself_a_relay() {
    let mut house = House::open(&[("leaf", "subscribe"), ("relay", "relay"), ("gate", "check")]);
    let [leaf, relay, gate] = ["leaf", "relay", "gate"].map(|name| house.credential(name));
    let mut pretender = Subscription::begin(&house, &leaf, 1, Role::Relay).await;
    pretender.denied(AT_ONCE, "this needs the role relay; \"leaf\" has subscribe").await;
    // He took no place: nobody waits for a relay that there is not.
    let mut honest = Subscription::follow(&house, &leaf, 1, Role::Leaf).await;
    let mut above = Subscription::follow(&house, &relay, 2, Role::Relay).await;
    let outsider = Subscription::begin(&house, &gate, 3, Role::Leaf).await.refused().await;
    assert_eq!(outsider, "PermissionDenied: this needs the role subscribe or relay; \"gate\" has check");
    honest.is_fed().await;
    above.is_fed().await;
    assert_eq!(denied_requests(&house, "role"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_its_first_principals_until_it_says_goodbye() {
    let mut house = House::open(&[("one", "subscribe"), ("two", "subscribe")]);
    let [one, two] = ["one", "two"].map(|name| house.credential(name));
    let mut mine = Subscription::follow(&house, &one, 1, Role::Leaf).await;
    let mut theirs = Subscription::begin(&house, &two, 1, Role::Leaf).await;
    theirs.denied(AT_ONCE, "this member id is that of another principal's process").await;
    mine.is_fed().await;
    // Cut off is not gone: the id waits for its owner, over a restart of the server too.
    drop(mine);
    house.server.kill();
    house.server.restart();
    let mut theirs = Subscription::begin(&house, &two, 1, Role::Leaf).await;
    theirs.denied(AT_ONCE, "this member id is that of another principal's process").await;
    Subscription::follow(&house, &one, 1, Role::Leaf).await.leave().await;
    Subscription::follow(&house, &two, 1, Role::Leaf).await.is_fed().await;
    assert_eq!(denied_requests(&house, "member"), 1.0, "since the restart");
}

/// What `rescind check` says of a subject at a node that asks nobody.
fn check(url: &str, subject: &str) -> Option<i32> {
    let claims = format!(r#"{{"sub":"{subject}","iat":1,"exp":4000000000}}"#);
    let mut child = command(&["check", "--claims-file", "-", "--server", url]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), claims.as_bytes()).unwrap();
    child.wait().unwrap().code()
}

/// The most attempts to connect that back-off makes within some 9 s: windows double from 0.2 s, and a wait is a random part
/// of one. Without it there would be hundreds.
const ATTEMPTS_MAX: f64 = 25.0;
const REVOKED: Option<i32> = Some(1);
const UNKNOWN: Option<i32> = Some(2);
const NOT_REVOKED: Option<i32> = Some(0);

/// An agent that may follow no longer says why, tries ever less often, answers as stale, and is back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_credential_is_refused_says_so_and_goes_stale() {
    let mut house = House::open(&[]);
    let revoke = ["revoke", "--sub", "mallory", "--cutoff", "none", "--expires-in", "1h"];
    check_done(&house.admin(&revoke));
    let credential = house.create("agent", &["--role", "relay"]);
    let stale = ["--max-staleness", "5s", "--when-stale", "deny", "--upstream-credential-file"];
    let mut agent =
        Agent::prepare("agent", &[&house.server.url()], &[&stale[..], &[credential.to_str().unwrap()]].concat());
    agent.start();
    agent.wait_live();
    assert_eq!((check(&agent.url, "mallory"), check(&agent.url, "alice")), (REVOKED, NOT_REVOKED));
    check_done(&house.admin(&["credential", "revoke", "--name", "agent"]));
    wait_until("the agent is stale", LIMIT, || (agent.metric("rescind_staleness_seconds") > 9.0).then_some(()));
    let attempts = agent.metric("rescind_upstream_failures_total");
    assert!((2.0..ATTEMPTS_MAX).contains(&attempts), "{attempts} attempts");
    assert_eq!((check(&agent.url, "mallory"), check(&agent.url, "alice")), (REVOKED, UNKNOWN));
    let log = agent.log_text();
    for part in ["the server said go away: denied", NOT_ACCEPTED, "refused: Unauthenticated", "the set is stale"] {
        assert!(log.contains(part), "{part} is missing in: {log}");
    }
    let status = command(&["status", "--server", &agent.url]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("STALE") && !status.contains(": live"), "{status}");
    let ready = http::get(agent.ops, "/readyz").unwrap();
    assert!(ready.body.contains("staler than"), "{ready:?}");
    // Another credential of the same name, in the same file, which is read for each connection.
    house.create("agent", &["--role", "relay"]);
    wait_until("it follows again", LIMIT, || (check(&agent.url, "alice") == NOT_REVOKED).then_some(()));
}

/// The same of a process that came with the cache, and so the member id, of another principal.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_the_cache_of_another_principal_does_not_hammer() {
    let mut house = House::open(&[("one", "relay"), ("two", "relay")]);
    let [one, two] = ["one", "two"].map(|name| house.credential(name));
    let cache = house.path("cache");
    let agent = |credential: &Path| {
        let flags =
            ["--cache-dir", cache.to_str().unwrap(), "--upstream-credential-file", credential.to_str().unwrap()];
        Agent::prepare("agent", &[&house.server.url()], &flags)
    };
    let mut mine = agent(&one);
    mine.start();
    mine.wait_live();
    mine.kill();
    let mut theirs = agent(&two);
    theirs.start_cold();
    let clock = Clock::system();
    let begun = clock.boot();
    let member = "this member id is that of another principal's process";
    wait_until("it was refused for a while", LIMIT, || {
        (theirs.log_text().contains(member) && clock.boot().since(begun) > Duration::from_secs(8)).then_some(())
    });
    let attempts = theirs.metric("rescind_upstream_failures_total");
    assert!((2.0..ATTEMPTS_MAX).contains(&attempts), "{attempts} attempts");
    assert_eq!(attempts, denied_requests(&house, "member"), "each was denied, and none led to another");
    let status = command(&["status", "--server", &theirs.url]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("no word from the authority yet") && !status.contains(": live"), "{status}");
    assert!(status.lines().any(|line| line.contains("NOT FOLLOWING") && line.contains(member)), "{status}");
}

#[test]
fn a_refused_agent_says_why_until_it_is_let_in() {
    let mut house = House::open(&[("checks", "check")]);
    let (stranger, checks) = (mint().unwrap().text, house.credential("checks"));
    let shown = house.keep("shown.credential", &stranger);
    let flags = ["--upstream-credential-file", shown.to_str().unwrap()];
    let mut agent = Agent::prepare("refused", &[&house.server.url()], &flags);
    agent.start_cold();
    let told = |part: &str| {
        wait_until("the agent says why", LIMIT, || {
            let ready = http::get(agent.ops, "/readyz")?;
            let why = ready.body.lines().find(|line| line.starts_with("does not follow"))?;
            (ready.status == 503 && why.contains(part)).then_some(())
        });
        let status = command(&["status", "--server", &agent.url]).output().unwrap();
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.lines().any(|line| line.contains("NOT FOLLOWING") && line.contains(part)), "{status}");
        assert!(!status.contains(stranger.as_str()), "{status}");
    };
    told(NOT_ACCEPTED);
    std::fs::copy(&checks, &shown).unwrap();
    told("role");
    house.let_in(&[("checks", "relay")], true);
    wait_until("it is let in", LIMIT, || {
        http::get(agent.ops, "/readyz").filter(|ready| ready.status == 200 && !ready.body.contains("does not follow"))
    });
    let status = command(&["status", "--server", &agent.url]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(": live") && !status.contains("NOT FOLLOWING"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_credential_is_refused_is_told_why_and_knows_nothing_for_sure() {
    let mut house = House::open(&[]);
    let credential = house.create("service", &["--role", "subscribe"]);
    let told = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&told);
    let client = Client::builder([house.server.url()])
        .credential_file(&credential)
        .max_staleness(Duration::from_secs(5))
        .when_stale(WhenStale::Deny)
        .observe(move |event: Event<'_>, _: &FollowerStatus| {
            if let Event::Disconnected { reason, .. } = event {
                noted.lock().unwrap().push(reason.to_owned());
            }
        })
        .connect()
        .unwrap();
    client.ready(LIMIT).await.unwrap();
    let alice = || client.check_json(br#"{"sub":"alice","iat":1,"exp":4000000000}"#, None).unwrap().verdict;
    wait_until("it has heard the authority", LIMIT, || (alice() == Verdict::NotRevoked).then_some(()));
    check_done(&house.admin(&["credential", "revoke", "--name", "service"]));
    wait_until("it knows that it does not know", LIMIT, || {
        (alice() == Verdict::Unknown(UnknownCause::Stale)).then_some(())
    });
    let told = told.lock().unwrap().join("\n");
    assert!(told.contains("go away: denied") && told.contains("refused: Unauthenticated"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_and_agents_show_who_they_are_on_a_unix_socket() {
    let mut house = House::open(&[("above", "relay"), ("below", "relay"), ("service", "subscribe")]);
    let [above, below, service] = ["above", "below", "service"].map(|name| house.credential(name));
    let stranger = house.keep("stranger.credential", &mint().unwrap().text);
    let (config, principals) = (house.path("agent.toml"), house.path("principals.toml"));
    std::fs::write(&config, format!("[authentication]\nprincipals = '{}'\n", principals.display())).unwrap();
    let shows = |credential: &Path| ["--upstream-credential-file".to_owned(), credential.display().to_string()];
    let shown = shows(&above);
    let flags = [&shown[0], &shown[1], "--config", config.to_str().unwrap()];
    let mut above = Agent::prepare_unix("above", &[&house.server.url()], &flags);
    above.start();

    let [flag, path] = shows(&below);
    let mut below = Agent::prepare("below", &[&above.url], &[&flag, &path]);
    below.start();
    below.wait_live();
    let told = Arc::<Mutex<Vec<String>>>::default();
    let client = |credential: Option<&Path>| {
        let noted = Arc::clone(&told);
        let client = Client::builder([above.url.clone()]).observe(move |event: Event<'_>, _: &FollowerStatus| {
            if let Event::Disconnected { reason, .. } = event {
                noted.lock().unwrap().push(reason.to_owned());
            }
        });
        match credential {
            Some(path) => client.credential_file(path).connect().unwrap(),
            None => client.connect().unwrap(),
        }
    };
    let known = client(Some(&service));
    known.ready(LIMIT).await.unwrap();
    check_done(&house.admin(&["revoke", "--sub", "mallory", "--cutoff", "none", "--expires-in", "1h"]));
    let mallory = br#"{"sub":"mallory","iat":1,"exp":4000000000}"#;
    wait_until("the revocation comes to the client", LIMIT, || {
        matches!(known.check_json(mallory, None).unwrap().verdict, Verdict::Revoked(_)).then_some(())
    });
    wait_until("and to the agent", LIMIT, || (below.metric("rescind_live_entries") == 1.0).then_some(()));
    assert!(told.lock().unwrap().is_empty(), "{told:?}");

    for (credential, part) in [(None, "Unauthenticated"), (Some(stranger.as_path()), NOT_ACCEPTED)] {
        let refused = client(credential);
        wait_until("it is refused and told why", LIMIT, || {
            told.lock().unwrap().iter().any(|why| why.contains(part)).then_some(())
        });
        let verdict = refused.check_json(mallory, None).unwrap().verdict;
        assert!(matches!(verdict, Verdict::Unknown(_)), "it has learned something: {verdict:?}");
        told.lock().unwrap().clear();
    }
}

/// Everybody who is known is told how a server is; who follows it is for administrators.
#[test]
fn whoever_may_not_list_subscribers_is_told_the_status_all_the_same() {
    let mut house = House::open(&[("gate", "check")]);
    for arguments in [&["status"][..], &["status", "--json"]] {
        let told = house.as_principal("gate", arguments);
        check_done(&told);
        assert!(String::from_utf8_lossy(&told.stdout).contains("authentication"), "{told:?}");
    }
}
