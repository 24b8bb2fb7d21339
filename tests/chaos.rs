//! A fleet of real processes under faults: kill -9, SIGSTOP, and a network that stalls, cuts and throttles.
//!
//! A server, two relays, ten leaves that may follow either. While faults come and go, revocations are made and checked; what
//! every replica was told is recorded and judged by a validator per promise. `RESCIND_CHAOS_SECONDS` sets how long
//! (`make chaos`), `RESCIND_TEST_SEED` which faults.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "seeds and counts are printed")]

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Random;
use common::agent::Agent;
use common::caller::{Caller, revocation};
use common::proxy::{Proxy, Weather};
use common::server::Server;
use rescind::client::{Client, Event, FollowerStatus, UnknownCause, Verdict};
use rescind::clock::Clock;
use rescind::revocation::{Claims, Position, UnixSeconds};
use rescind::wire::{self, pb};

const LEAVES: usize = 10;
const SECONDS: u64 = 20;
const HEALED_WITHIN: Duration = Duration::from_secs(60);
/// Between two faults.
const FAULT_MILLIS: std::ops::Range<u64> = 200..1500;

/// What a replica was told, as the validators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// A revision is in force.
    Revision(u64),
    /// A whole set was swapped in.
    Swapped(u64),
    EpochChanged,
    Alarm,
}

struct Leaf {
    client: Client,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Leaf {
    fn follow(name: &str, urls: [String; 2]) -> Self {
        let told: Arc<Mutex<Vec<Told>>> = Arc::default();
        let log = Arc::clone(&told);
        let observe = move |event: Event<'_>, _: &FollowerStatus| {
            let told = match event {
                Event::Revision { delta, .. } => Told::Revision(delta.revision.0),
                Event::Swapped { epoch_change: Some(_), .. } => Told::EpochChanged,
                Event::Swapped { position, .. } => Told::Swapped(position.revision.0),
                Event::Alarm(_) => Told::Alarm,
                Event::Connected { .. } | Event::Disconnected { .. } | Event::Status => return,
            };
            log.lock().unwrap().push(told);
        };
        let client = common::guard::client(urls).name(name).observe(observe).connect().unwrap();
        Self { client, told }
    }
}

/// The fleet, and what may befall it.
struct Fleet {
    server: Server,
    relays: [Agent; 2],
    /// Before the server, one for each relay; then before each relay.
    links: [Proxy; 4],
}

impl Fleet {
    async fn start() -> Self {
        let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
        let up = [Proxy::before(server.direct).await, Proxy::before(server.direct).await];
        let relays = [0, 1].map(|n| Agent::prepare(&format!("relay-{n}"), &[&up[n].url()], &[]));
        let relays = tokio::task::spawn_blocking(move || {
            let mut relays = relays;
            relays.iter_mut().for_each(Agent::start);
            relays
        });
        let relays = relays.await.unwrap();
        let down = [Proxy::before(relays[0].direct.unwrap()).await, Proxy::before(relays[1].direct.unwrap()).await];
        let [a, b] = up;
        let [c, d] = down;
        Self { server, relays, links: [a, b, c, d] }
    }

    /// Lets one thing go wrong, or right again; says what.
    fn befall(&mut self, random: &mut Random) -> &'static str {
        let link = random.from(0..4) as usize;
        let relay = random.from(0..2) as usize;
        match random.from(0..10) {
            0 => {
                self.server.kill();
                self.server.restart();
                "server killed"
            }
            1 => {
                self.relays[relay].kill();
                self.relays[relay].start_cold();
                "relay killed"
            }
            2 => {
                self.relays[relay].signal("-STOP");
                "relay stopped"
            }
            3 | 4 => {
                self.relays[relay].signal("-CONT");
                "relay goes on"
            }
            5 => {
                self.links[link].set(Weather::Stalled);
                "link stalled"
            }
            6 => {
                self.links[link].set(Weather::Throttled);
                "link throttled"
            }
            7 | 8 => {
                self.links[link].set(Weather::Fair);
                "link fair"
            }
            _ => {
                self.links[link].cut();
                "link cut"
            }
        }
    }

    fn heal(&mut self) {
        self.links.iter().for_each(|link| link.set(Weather::Fair));
        self.relays.iter().for_each(|relay| relay.signal("-CONT"));
    }
}

/// What was acknowledged, and where.
#[derive(Default)]
struct Acknowledged(Vec<(String, Position)>);

async fn revoke(caller: &Caller, jti: &str) -> Option<Position> {
    let request = pb::RevokeRequest {
        revocations: vec![revocation(&[("jti", jti)])],
        request_id: format!("request-{jti}"),
        ..pb::RevokeRequest::default()
    };
    let sent = tokio::time::timeout(Duration::from_secs(5), async { caller.revocations().revoke(request).await });
    let response = sent.await.ok()?.ok()?.into_inner();
    wire::position(&response.position?).ok()
}

fn verdict(leaf: &Leaf, jti: &str, at_least: Option<Position>) -> Verdict {
    let now = Clock::system().wall().0 / 1000;
    let mut claims = Claims::new();
    claims.push("jti", jti, false);
    (claims.iat, claims.exp) = (Some(UnixSeconds(now)), Some(UnixSeconds(now + 600)));
    let answer = match at_least {
        Some(position) => leaf.client.check_at_least(&claims, position),
        None => leaf.client.check(&claims),
    };
    answer.verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_under_faults_keeps_every_promise() {
    let mut random = Random::seeded();
    let seconds = std::env::var("RESCIND_CHAOS_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"));
    let mut fleet = Fleet::start().await;
    let leaves: Vec<Leaf> = (0..LEAVES)
        .map(|n| {
            let urls = [fleet.links[2 + n % 2].url(), fleet.links[3 - n % 2].url()];
            Leaf::follow(&format!("leaf-{n}"), urls)
        })
        .collect();
    for leaf in &leaves {
        leaf.client.ready(HEALED_WITHIN).await.unwrap();
    }
    let clock = Clock::system();
    let (begun, mut next_fault) = (clock.boot(), clock.boot());
    let (mut acknowledged, mut tried) = (Acknowledged::default(), HashSet::new());
    let caller = Caller::new(fleet.server.listen);
    let mut faults = Vec::new();
    while clock.boot().since(begun) < Duration::from_secs(seconds) {
        if clock.boot() >= next_fault {
            faults.push(tokio::task::block_in_place(|| fleet.befall(&mut random)));
            next_fault.0 = clock.boot().0 + Duration::from_millis(random.from(FAULT_MILLIS));
        }
        let jti = format!("jti-{}", tried.len());
        if let Some(position) = revoke(&caller, &jti).await {
            acknowledged.0.push((jti.clone(), position));
        }
        tried.insert(jti);
        let leaf = &leaves[random.from(0..LEAVES as u64) as usize];
        read_your_writes(leaf, &acknowledged, &mut random);
        no_false_positive(leaf, &mut random);
    }
    tokio::task::block_in_place(|| fleet.heal());
    let last = loop {
        if let Some(position) = revoke(&caller, "jti-last").await {
            break position;
        }
    };
    acknowledged.0.push(("jti-last".to_owned(), last));
    for (n, leaf) in leaves.iter().enumerate() {
        let reached = leaf.client.reached(last, HEALED_WITHIN).await;
        assert!(reached.is_ok(), "leaf {n} does not converge: {:?}", leaf.client.status());
        durable_and_no_false_negative(leaf, &acknowledged);
        no_false_positive(leaf, &mut random);
        let told = leaf.told.lock().unwrap().clone();
        ordered_and_gapless(&told).unwrap_or_else(|violation| panic!("leaf {n}: {violation}"));
        assert!(!told.contains(&Told::Alarm) && !told.contains(&Told::EpochChanged), "leaf {n}: {told:?}");
    }
    println!("{} faults, {} of {} revocations acknowledged", faults.len(), acknowledged.0.len(), tried.len() + 1);
    assert!(acknowledged.0.len() > 10, "faults left nothing to judge: {faults:?}");
}

/// ReadYourWrites: a check from the position of the acknowledgement sees it, or refuses to answer.
fn read_your_writes(leaf: &Leaf, acknowledged: &Acknowledged, random: &mut Random) {
    if acknowledged.0.is_empty() {
        return;
    }
    let (jti, position) = &acknowledged.0[random.from(0..acknowledged.0.len() as u64) as usize];
    let verdict = verdict(leaf, jti, Some(*position));
    let kept = matches!(&verdict, Verdict::Revoked(_) | Verdict::Unknown(UnknownCause::Behind));
    assert!(kept, "{jti} was acknowledged at {position}: {verdict:?}");
}

/// NoFalsePositive: nobody is refused whom no revocation names.
fn no_false_positive(leaf: &Leaf, random: &mut Random) {
    let jti = format!("nobody-{}", random.next());
    assert_eq!(verdict(leaf, &jti, None), Verdict::NotRevoked, "{jti}");
}

/// Durable, NoFalseNegative: everything acknowledged is in force, after any number of kills.
fn durable_and_no_false_negative(leaf: &Leaf, acknowledged: &Acknowledged) {
    for (jti, position) in &acknowledged.0 {
        let verdict = verdict(leaf, jti, None);
        assert!(matches!(verdict, Verdict::Revoked(_)), "{jti} was acknowledged at {position}: {verdict:?}");
    }
}

/// Ordered, Unique, Gapless, Monotonic: revisions follow one another, and no set that is swapped in is older.
fn ordered_and_gapless(told: &[Told]) -> Result<(), String> {
    let mut at = None;
    for told in told {
        match (*told, at) {
            (Told::Revision(next), Some(before)) if next != before + 1 => {
                return Err(format!("revision {next} after {before}"));
            }
            (Told::Revision(_), None) => return Err("a revision before any set".to_owned()),
            (Told::Swapped(next), Some(before)) if next < before => {
                return Err(format!("back from {before} to {next}"));
            }
            (Told::Revision(next) | Told::Swapped(next), _) => at = Some(next),
            (Told::EpochChanged | Told::Alarm, _) => {}
        }
    }
    Ok(())
}

#[test]
fn the_validator_notices_gaps_repetitions_and_returns() {
    assert!(ordered_and_gapless(&[Told::Swapped(3), Told::Revision(4), Told::Revision(5), Told::Swapped(5)]).is_ok());
    assert!(ordered_and_gapless(&[Told::Swapped(3), Told::Revision(5)]).is_err());
    assert!(ordered_and_gapless(&[Told::Swapped(3), Told::Revision(3)]).is_err());
    assert!(ordered_and_gapless(&[Told::Swapped(3), Told::Swapped(2)]).is_err());
    assert!(ordered_and_gapless(&[Told::Revision(1)]).is_err());
}
