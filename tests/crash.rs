//! kill -9, again and again, under concurrent writers: what was acknowledged is there, and replicas go on where they were.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use common::caller::{Caller, Outcome, claims, revocation};
use common::load::Visitors;
use common::server::Server;
use common::{Random, rounds};
use rescind::client::Client;
use rescind::clock::Clock;
use rescind::revocation::Position;
use rescind::wire::{self, pb};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How many kills, unless told.
const ROUNDS: usize = 50;
/// How many of them one server sees: the next snapshot comes after an eighth of the last one, and is waited for.
const KILLS_PER_SERVER: usize = 25;
const WRITERS: usize = 4;
/// Revocations in one request.
const ITEMS_MAX: u64 = 5;
/// The same where it is a snapshot that the kill is to meet.
const ITEMS_MAX_FOR_SNAPSHOT: u64 = 60;
/// Every so many kills one comes while a snapshot is being written.
const SNAPSHOT_EVERY: usize = 4;
/// Snapshots after little.
const BUSY: &str = "[journal]\nsnapshot_bytes_min = 4096\n";
/// Acknowledgements before a kill: few enough for a quick round, enough for it to come at any moment of a write.
const ACKNOWLEDGED_BEFORE_KILL: std::ops::Range<u64> = 3..40;
/// How many kills one replica sees: its back-off grows with each.
const KILLS_PER_REPLICA: usize = 2;
const CATCH_UP_LIMIT: Duration = Duration::from_secs(20);
/// The most tokens in one check.
const CHECK_TOKENS_MAX: usize = 1000;

/// A request that was sent, and must be sent again until it is acknowledged.
#[derive(Clone, Debug)]
struct Sent {
    request: pb::RevokeRequest,
    jtis: Vec<String>,
}

/// Everything that was acknowledged, and whether it contradicts itself.
#[derive(Debug, Default)]
struct Acknowledged {
    jtis: Vec<String>,
    /// The request of each id: an id is given out once.
    ids: HashMap<String, String>,
    /// The positions by writer never step back.
    last: BTreeMap<usize, u64>,
    epoch: Option<Vec<u8>>,
    repeats: usize,
}

impl Acknowledged {
    fn take(&mut self, writer: usize, sent: &Sent, response: &pb::RevokeResponse) {
        let position = response.position.as_ref().expect("an acknowledgement has a position");
        assert_eq!(self.epoch.get_or_insert_with(|| position.epoch.clone()), &position.epoch, "the epoch changed");
        assert_eq!(response.outcomes.len(), sent.jtis.len());
        for (outcome, jti) in response.outcomes.iter().zip(&sent.jtis) {
            let claims = &outcome.selector.as_ref().unwrap().claims;
            assert!(claims.iter().any(|claim| claim.value == *jti), "outcomes are in the order of the request");
            let prefix = format!("{}-{}-", hex(&position.epoch[..4]), position.revision);
            assert!(outcome.id.starts_with(&prefix), "{} was given at {position:?}", outcome.id);
            let earlier = self.ids.insert(outcome.id.clone(), jti.clone());
            assert_eq!(earlier, None, "{} was given out twice", outcome.id);
        }
        if response.repeated_request {
            self.repeats += 1;
        } else {
            let last = self.last.insert(writer, position.revision).unwrap_or(0);
            assert!(last < position.revision, "writer {writer}: {} after {last}", position.revision);
        }
        self.jtis.extend(sent.jtis.iter().cloned());
    }

    fn head(&self) -> u64 {
        self.last.values().copied().max().unwrap_or(0)
    }
}

/// What a round's writers share.
#[derive(Debug)]
struct Round {
    /// The most revocations in one request.
    items_max: u64,
    kill_after: usize,
    acknowledged: AtomicUsize,
    kill_now: Notify,
}

/// Writes until the server is gone. Returns what was acknowledged, and the request whose outcome nobody knows.
async fn write(
    caller: Caller,
    writer: usize,
    mut random: Random,
    round: Arc<Round>,
    doubtful: Option<Sent>,
) -> (usize, Vec<(Sent, pb::RevokeResponse)>, Option<Sent>) {
    let mut acknowledged = Vec::new();
    let mut next = doubtful;
    loop {
        let sent = next.take().unwrap_or_else(|| request(writer, round.items_max, &mut random));
        match caller.revocations().revoke(sent.request.clone()).await {
            Ok(response) => {
                acknowledged.push((sent, response.into_inner()));
                if round.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 >= round.kill_after {
                    round.kill_now.notify_one();
                }
            }
            Err(_) => return (writer, acknowledged, Some(sent)),
        }
    }
}

fn request(writer: usize, items_max: u64, random: &mut Random) -> Sent {
    let count = random.from(1..items_max + 1);
    let jtis: Vec<String> = (0..count).map(|_| format!("{writer}-{:016x}", random.next())).collect();
    let revocations = jtis.iter().map(|jti| revocation(&[("jti", jti)])).collect();
    let request_id = format!("request-{writer}-{:016x}", random.next());
    Sent { request: pb::RevokeRequest { revocations, request_id, ..pb::RevokeRequest::default() }, jtis }
}

/// Panics unless the server finds every one of them revoked.
async fn assert_revoked(caller: &Caller, jtis: &[String]) {
    for some in jtis.chunks(CHECK_TOKENS_MAX) {
        let presented = |jti: &String| pb::PresentedToken { presented: Some(claims(&json!({ "jti": jti }))) };
        let tokens = some.iter().map(presented).collect();
        let request = pb::CheckTokensRequest { tokens, at_least: None };
        let responses = caller.checks().check_tokens(request).await.unwrap().into_inner().responses;
        assert_eq!(responses.len(), some.len());
        for (jti, response) in some.iter().zip(&responses) {
            assert_eq!(Outcome::of(response), Outcome::Revoked, "{jti} was acknowledged and is lost");
        }
    }
}

/// A replica in this process, and how many kills it has seen.
struct Follower {
    client: Client,
    kills: usize,
}

impl Follower {
    async fn connect(server: &Server) -> Self {
        let client = common::guard::client([server.url()]).name("crash test").connect().unwrap();
        client.ready(CATCH_UP_LIMIT).await.unwrap();
        Self { client, kills: 0 }
    }

    /// Waits until it has what the server has, and judges how it came there.
    async fn assert_caught_up(&mut self, head: Position, jtis: &[String]) {
        self.kills += 1;
        self.client.reached(head, CATCH_UP_LIMIT).await.unwrap();
        for jti in jtis {
            let payload = json!({ "jti": jti }).to_string();
            let answer = self.client.check_json(payload.as_bytes(), None).unwrap();
            assert!(answer.deny, "{jti} is not revoked in the replica: {:?}", answer.verdict);
        }
        let counts = self.client.status().counts;
        assert_eq!(counts.snapshots, 1, "the first state only: the journal still has every revision since; {counts:?}");
        assert_eq!(counts.divergences, 0, "{counts:?}");
        assert!(counts.connections > self.kills as u64, "it did connect again: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_revocations_survive_kills_and_replicas_resume() {
    let mut random = Random::seeded();
    let mut left = rounds(ROUNDS);
    while left > 0 {
        let kills = left.min(KILLS_PER_SERVER);
        check(kills, &mut random).await;
        left -= kills;
    }
}

/// Kills a fresh server so often.
async fn check(kills: usize, random: &mut Random) {
    let config = tempfile::Builder::new().prefix("rescind-busy-").suffix(".toml").tempfile().unwrap();
    std::fs::write(config.path(), BUSY).unwrap();
    let mut server = Server::start_with(None, &["--config", config.path().to_str().unwrap()]);
    let partial = server.data_dir.join("snapshots/snapshot.partial");
    let (mut met, mut visits) = (0, 0);
    let mut all = Acknowledged::default();
    let mut doubtful: BTreeMap<usize, Sent> = BTreeMap::new();
    let mut follower = Follower::connect(&server).await;

    for turn in 0..kills {
        let meets_snapshot = turn % SNAPSHOT_EVERY == 0;
        let round = Arc::new(Round {
            items_max: if meets_snapshot { ITEMS_MAX_FOR_SNAPSHOT } else { ITEMS_MAX },
            kill_after: random.from(ACKNOWLEDGED_BEFORE_KILL) as usize,
            acknowledged: AtomicUsize::new(0),
            kill_now: Notify::new(),
        });
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let doubtful = doubtful.remove(&writer);
            let own = Caller::new(server.listen);
            writers.spawn(write(own, writer, random.fork(), Arc::clone(&round), doubtful));
        }
        let visitors = Visitors::start(server.url());
        tokio::time::timeout(CATCH_UP_LIMIT, round.kill_now.notified()).await.expect("writes are acknowledged");
        if meets_snapshot {
            until_changed(&partial).await;
        }
        let left = modified(&partial).filter(|_| meets_snapshot);
        server.kill();
        visits += visitors.stop().await;
        met += usize::from(left.is_some() && modified(&partial) >= left);
        let before = all.jtis.len();
        while let Some(written) = writers.join_next().await {
            let (writer, acknowledged, unknown) = written.unwrap();
            acknowledged.iter().for_each(|(sent, response)| all.take(writer, sent, response));
            doubtful.extend(unknown.map(|sent| (writer, sent)));
        }

        server.restart();

        let caller = Caller::new(server.listen);
        assert_revoked(&caller, &all.jtis).await;
        let status = caller.status().await;
        let head = wire::position(status.position.as_ref().unwrap()).unwrap();
        assert_eq!(head.epoch[..], all.epoch.as_ref().unwrap()[..]);
        assert!(head.revision.0 >= all.head(), "{head}, acknowledged up to {}", all.head());
        follower.assert_caught_up(head, &all.jtis[before..]).await;
        if follower.kills == KILLS_PER_REPLICA {
            follower.client.shutdown().await;
            follower = Follower::connect(&server).await;
        }
    }

    // Whatever was in doubt at a kill was asked again with its request id, and answered once.
    assert_eq!(all.ids.len(), all.jtis.len());
    let log = server.log_text();
    let snapshots = log.matches("snapshot written").count();
    println!(
        "faults: {kills} kills, {met} while a snapshot was written, {snapshots} snapshots, {visits} subscribers came and \
         went, {} acknowledged revocations, {} repeats answered, none lost",
        all.jtis.len(),
        all.repeats
    );
    assert!(!log.contains("panicked"), "{log}");
    if kills >= KILLS_PER_SERVER {
        assert!(met > 0 && snapshots > 0 && visits > 0, "the kills met nothing rare");
    }
}

/// When a file was last written.
fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// Returns as soon as the file is written: what an earlier kill left of it does not count.
async fn until_changed(path: &Path) {
    let (path, before) = (path.to_owned(), modified(path));
    let changed = move || {
        let clock = Clock::system();
        let begun = clock.boot();
        while modified(&path).is_none_or(|now| before.is_some_and(|before| now <= before)) {
            assert!(clock.boot().since(begun) < CATCH_UP_LIMIT, "no snapshot is written");
            std::thread::yield_now();
        }
    };
    tokio::task::spawn_blocking(changed).await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
