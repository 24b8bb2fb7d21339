//! The driver and the handle against an authority in miniature, on virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::testing::{Authority, BEGIN, Peer, Server};
use super::*;
use crate::clock::{Clock, ManualTime};
use crate::replication::frames::{ToServer, ToSubscriber, WelcomeMode};
use crate::revocation::ports::{Answer, VerificationPolicies};
use crate::revocation::{
    Claims, LifetimePolicy, Minute, Policy, Position, Revision, UnixMillis, UnixSeconds, UnknownCause, Verdict,
    WhenStale,
};

const SECOND: Duration = Duration::from_secs(1);

/// A replica under test, and what it was told.
struct Fixture {
    driver: Driver,
    time: Arc<ManualTime>,
    server: Arc<Server>,
    peers: mpsc::Receiver<Peer>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut FollowerOptions)) -> Self {
        Self::of(Vec::new(), change)
    }

    /// Follows a server of its own, and may go to these.
    fn of(others: Vec<Arc<Server>>, change: impl FnOnce(&mut FollowerOptions)) -> Self {
        let (server, peers) = Server::new("first");
        let time = ManualTime::starting_at(BEGIN);
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&told);
        let observer = move |event: Event<'_>, _: &FollowerStatus| {
            let line = match event {
                Event::Revision { delta, entries } => format!("revision {} entries {entries}", delta.revision),
                Event::Swapped { position, .. } => format!("swapped {}", position.revision),
                Event::Disconnected { reason, .. } => format!("disconnected: {reason}"),
                Event::Alarm(alarm) => format!("alarm: {alarm}"),
                Event::Connected { .. } | Event::Status => return,
            };
            log.lock().unwrap().push(line);
        };
        let mut follower = FollowerOptions::leaf(NodeId([1; 16]), "test", 7);
        change(&mut follower);
        let options = DriverOptions {
            follower,
            upstreams: [Arc::clone(&server)]
                .into_iter()
                .chain(others)
                .map(|server| server as Arc<dyn Upstream>)
                .collect(),
            clock: Clock::manual(Arc::clone(&time)),
            observer: Some(Box::new(observer)),
            keepers: Vec::new(),
            below: None,
            cache: None,
        };
        let driver = Driver::spawn(options, &tokio::runtime::Handle::current());
        Self { driver, time, server, peers, told }
    }

    /// A replica that follows an authority which has revoked `mallory`.
    async fn live(mut self, authority: &mut Authority) -> (Self, Peer) {
        authority.revoke("mallory");
        let peer = self.accept_snapshot(authority).await;
        self.replica().ready(SECOND).await.unwrap();
        (self, peer)
    }

    /// The next connection, with the whole set sent.
    async fn accept_snapshot(&mut self, authority: &Authority) -> Peer {
        let mut peer = self.peers.recv().await.unwrap();
        peer.hello().await;
        peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
        peer.send(authority.snapshot(self.wall())).await;
        peer
    }

    fn replica(&self) -> &Replica {
        self.driver.replica()
    }

    fn wall(&self) -> UnixMillis {
        Clock::manual(Arc::clone(&self.time)).wall()
    }

    fn check(&self, sub: &str) -> Answer {
        self.replica().check(&claims(sub), None)
    }

    /// Lets time pass on every clock, in steps, so that the driver ticks meanwhile.
    async fn pass(&self, duration: Duration) {
        const STEP: Duration = Duration::from_millis(100);
        for _ in 0..duration.as_millis() / STEP.as_millis() {
            self.time.advance(STEP);
            tokio::time::sleep(STEP).await;
        }
    }

    async fn reaches(&self, revision: Revision) {
        self.sees(|status| status.revision == revision).await;
    }

    /// Waits for a status; virtual time bounds it.
    async fn sees(&self, wanted: impl FnMut(&FollowerStatus) -> bool) {
        let mut statuses = self.replica().subscribe();
        let seen = tokio::time::timeout(60 * SECOND, statuses.wait_for(wanted)).await;
        assert!(seen.is_ok(), "still {:?}", self.replica().status());
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

fn claims(sub: &str) -> Claims {
    let mut claims = Claims::new();
    claims.push("sub", sub, false);
    claims.iat = Some(UnixSeconds(BEGIN.0 / 1000));
    claims.exp = Some(UnixSeconds(BEGIN.0 / 1000 + 3600));
    claims
}

fn local(when_stale: WhenStale) -> PolicyInForce {
    PolicyInForce { max_staleness: 10 * SECOND, when_stale }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_the_first_verified_set_and_ready_waits_for_it() {
    let mut fixture = Fixture::new();
    let answer = fixture.check("mallory");
    assert_eq!(answer.verdict, Verdict::Unknown(UnknownCause::NeverSynced));
    assert!(answer.deny);
    let not_ready = fixture.replica().ready(SECOND).await.unwrap_err();
    assert_eq!((not_ready.within, not_ready.position), (SECOND, None));
    let mut authority = Authority::new(1, Policy::default());
    authority.revoke("mallory");
    let _peer = fixture.accept_snapshot(&authority).await;
    fixture.replica().ready(SECOND).await.unwrap();
    assert!(matches!(fixture.check("mallory").verdict, Verdict::Revoked(_)));
    let answer = fixture.check("alice");
    assert_eq!(answer.verdict, Verdict::NotRevoked);
    assert_eq!(answer.position, Position { epoch: authority.epoch.id, revision: Revision(1) });
    assert_eq!(answer.staleness, Duration::ZERO);
    assert_eq!(fixture.told(), ["swapped 1"]);
}

#[tokio::test(start_paused = true)]
async fn deltas_are_in_force_one_by_one_and_acknowledged() {
    let mut authority = Authority::new(1, Policy::default());
    let (fixture, mut peer) = Fixture::new().live(&mut authority).await;
    peer.send([authority.revoke("eve"), authority.reinstate("mallory")]).await;
    fixture.reaches(Revision(3)).await;
    assert!(matches!(fixture.check("eve").verdict, Verdict::Revoked(_)));
    assert_eq!(fixture.check("mallory").verdict, Verdict::NotRevoked);
    assert_eq!(fixture.told(), ["swapped 1", "revision 2 entries 2", "revision 3 entries 1"]);
    loop {
        match peer.receive().await {
            Some(ToServer::Ack(ack)) if ack.applied == Revision(3) => break assert!(ack.ready),
            Some(ToServer::Ack(ack)) => assert!(ack.applied < Revision(3)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fixture.replica().status().counts.revisions, 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_at_a_position_not_reached_is_behind() {
    let mut authority = Authority::new(1, Policy::default());
    let (fixture, peer) = Fixture::new().live(&mut authority).await;
    let ahead = Position { epoch: authority.epoch.id, revision: Revision(2) };
    let at = |sub: &str| fixture.replica().check(&claims(sub), Some(ahead)).verdict;
    assert_eq!(at("alice"), Verdict::Unknown(UnknownCause::Behind));
    assert!(matches!(at("mallory"), Verdict::Revoked(_)), "a hit is a hit");
    let (reached, ()) = tokio::join!(fixture.replica().reached(ahead, SECOND), peer.send([authority.revoke("eve")]));
    reached.unwrap();
    assert_eq!(at("alice"), Verdict::NotRevoked);
}

#[tokio::test(start_paused = true)]
async fn failed_connections_are_retried_ever_more_rarely_at_the_next_server() {
    let (dead, _) = Server::new("dead");
    dead.refuse(true);
    let (alive, mut peers) = Server::new("alive");
    let options = DriverOptions {
        follower: FollowerOptions::leaf(NodeId([1; 16]), "test", 7),
        upstreams: vec![Arc::clone(&dead) as Arc<dyn Upstream>, Arc::clone(&alive) as Arc<dyn Upstream>],
        clock: Clock::manual(ManualTime::starting_at(BEGIN)),
        observer: None,
        keepers: Vec::new(),
        below: None,
        cache: None,
    };
    alive.refuse(true);
    let driver = Driver::spawn(options, &tokio::runtime::Handle::current());
    tokio::time::sleep(60 * SECOND).await;
    let in_first_minute = dead.attempts() + alive.attempts();
    assert!((5..60).contains(&in_first_minute), "{in_first_minute} attempts");
    assert!(dead.attempts().abs_diff(alive.attempts()) <= 1, "they take turns");
    tokio::time::sleep(600 * SECOND).await;
    let later = dead.attempts() + alive.attempts() - in_first_minute;
    assert!((20..200).contains(&later), "{later} attempts in ten minutes at half of 30 s each");
    alive.refuse(false);
    peers.recv().await.unwrap().hello().await;
    assert_eq!(driver.replica().status().counts.connections, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cut_subscription_is_resumed_where_it_was() {
    let mut authority = Authority::new(1, Policy::default());
    let (mut fixture, peer) = Fixture::new().live(&mut authority).await;
    drop(peer);
    let missed = authority.revoke("eve");
    let mut peer = fixture.peers.recv().await.unwrap();
    let held = peer.hello().await.held.unwrap();
    assert_eq!((held.epoch, held.revision), (authority.epoch, Revision(1)));
    peer.send([authority.welcome(WelcomeMode::Resume), missed, authority.heartbeat(fixture.wall())]).await;
    fixture.sees(|status| status.state == FollowerState::Live && status.revision == Revision(2)).await;
    assert!(matches!(fixture.check("eve").verdict, Verdict::Revoked(_)));
    let told = fixture.told();
    assert_eq!(told.iter().filter(|line| line.starts_with("swapped")).count(), 1, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_behind_is_refused_and_nothing_goes_back() {
    let mut authority = Authority::new(1, Policy::default());
    let (mut fixture, peer) = Fixture::new().live(&mut authority).await;
    peer.send([authority.revoke("eve")]).await;
    fixture.reaches(Revision(2)).await;
    drop(peer);
    let mut behind = Authority::new(1, Policy::default());
    behind.revoke("mallory");
    let mut peer = fixture.peers.recv().await.unwrap();
    peer.hello().await;
    peer.send([behind.welcome(WelcomeMode::Snapshot)]).await;
    assert!(peer.receive().await.is_none(), "it hangs up");
    assert_eq!(fixture.replica().status().position.unwrap().revision, Revision(2));
    assert!(matches!(fixture.check("eve").verdict, Verdict::Revoked(_)));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_in_mid_stream_takes_the_place_of_the_set() {
    let mut authority = Authority::new(1, Policy::default());
    let (fixture, peer) = Fixture::new().live(&mut authority).await;
    // The revisions in between are not sent: the subscriber fell behind by more than is kept.
    authority.revoke("eve");
    authority.reinstate("mallory");
    let mut frames = authority.snapshot(fixture.wall());
    let end = frames.pop().unwrap();
    peer.send(frames).await;
    assert!(matches!(fixture.check("mallory").verdict, Verdict::Revoked(_)), "the old set serves until the end");
    peer.send([end]).await;
    fixture.reaches(Revision(3)).await;
    assert_eq!(fixture.check("mallory").verdict, Verdict::NotRevoked);
    assert!(matches!(fixture.check("eve").verdict, Verdict::Revoked(_)));
    assert_eq!(fixture.replica().status().counts.snapshots, 2);
}

#[tokio::test(start_paused = true)]
async fn staleness_grows_while_the_upstream_is_gone_and_is_served_as_policy_says() {
    let mut authority = Authority::new(1, Policy::default());
    let fixture = Fixture::with(|options| options.local_policy = Some(local(WhenStale::ServeStale)));
    let (fixture, peer) = fixture.live(&mut authority).await;
    fixture.server.refuse(true);
    drop(peer);
    fixture.pass(5 * SECOND).await;
    assert_eq!(fixture.check("alice").staleness, 5 * SECOND);
    assert_eq!(fixture.replica().status().counts.served_stale, 0);
    fixture.pass(6 * SECOND).await;
    let answer = fixture.check("alice");
    assert_eq!((answer.verdict, answer.staleness), (Verdict::NotRevoked, 11 * SECOND));
    let status = fixture.replica().status();
    assert!(status.stale && status.ready);
    assert_eq!(status.counts.served_stale, 1);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_accepted_staleness_a_miss_is_unknown_when_either_policy_denies() {
    let logged = Policy { max_staleness: 10 * SECOND, when_stale: WhenStale::Deny, ..Policy::default() };
    for (logged, local) in [(Policy::default(), Some(local(WhenStale::Deny))), (logged, None)] {
        let mut authority = Authority::new(1, logged);
        let fixture = Fixture::with(|options| options.local_policy = local);
        let (mut fixture, peer) = fixture.live(&mut authority).await;
        fixture.server.refuse(true);
        drop(peer);
        fixture.pass(10 * SECOND).await;
        assert_eq!(fixture.check("alice").verdict, Verdict::NotRevoked);
        fixture.pass(SECOND).await;
        let answer = fixture.check("alice");
        assert_eq!(answer.verdict, Verdict::Unknown(UnknownCause::Stale));
        assert!(answer.deny);
        assert!(matches!(fixture.check("mallory").verdict, Verdict::Revoked(_)), "a hit is a hit");
        fixture.server.refuse(false);
        let mut peer = fixture.peers.recv().await.unwrap();
        peer.hello().await;
        peer.send([authority.welcome(WelcomeMode::Resume), authority.heartbeat(fixture.wall())]).await;
        fixture.sees(|status| status.state == FollowerState::Live).await;
        assert_eq!(fixture.check("alice").verdict, Verdict::NotRevoked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_outlives_revocations_is_unknown_when_either_policy_enforces() {
    use LifetimePolicy::{Enforce, Warn};
    for (logged, local) in [(Warn, Warn), (Warn, Enforce), (Enforce, Warn)] {
        let mut authority = Authority::new(1, Policy { lifetime_policy: logged, ..Policy::default() });
        let (fixture, _peer) = Fixture::with(|options| options.lifetime_policy = local).live(&mut authority).await;
        let year = 365 * 86_400;
        let issued_long_ago = |sub: &str| {
            let mut claims = claims(sub);
            claims.iat = Some(UnixSeconds(BEGIN.0 / 1000 - year));
            claims
        };
        let expected = match logged.max(local) {
            Warn => Verdict::NotRevoked,
            Enforce => Verdict::Unknown(UnknownCause::BeyondHorizon),
        };
        assert_eq!(fixture.replica().check(&issued_long_ago("alice"), None).verdict, expected, "{logged:?}, {local:?}");
        assert!(matches!(fixture.replica().check(&issued_long_ago("mallory"), None).verdict, Verdict::Revoked(_)));
        assert_eq!(fixture.replica().status().counts.beyond_horizon, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_kept_for_a_minute_and_then_asked_anew() {
    let mut authority = Authority::new(1, Policy::default());
    let (mut fixture, first) = Fixture::new().live(&mut authority).await;
    fixture.pass(4 * SECOND).await;
    assert_eq!(fixture.replica().status().state, FollowerState::Suspect);
    assert!(first.is_heard(), "there is no other server");
    fixture.pass(57 * SECOND).await;
    assert!(!first.is_heard());
    let mut peer = fixture.peers.recv().await.unwrap();
    assert!(peer.hello().await.reconnect_reason.contains("no word from the authority"));
    assert_eq!(fixture.replica().status().state, FollowerState::Suspect);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_only_for_one_that_heard_the_authority_later() {
    let mut authority = Authority::new(1, Policy::default());
    let (second, mut peers_of_second) = Server::new("second");
    let (mut fixture, first) = Fixture::of(vec![second], |_| ()).live(&mut authority).await;
    let heard = fixture.wall();
    authority.revoke("trudy");
    // Nobody heard the authority since: whoever is asked, it stays.
    let mut asked = 0;
    for _ in 0..10 {
        fixture.pass(SECOND).await;
        while let Ok(mut peer) = peers_of_second.try_recv() {
            assert!(peer.hello().await.probe);
            peer.send([authority.welcome_from(WelcomeMode::Resume, heard)]).await;
            asked += 1;
        }
    }
    assert!((2..=20).contains(&asked), "{asked}");
    assert!(first.is_heard());
    // It was heard elsewhere again.
    let mut answer = async || {
        let mut peer = peers_of_second.recv().await.unwrap();
        let hello = peer.hello().await;
        (peer, hello)
    };
    let (peer, hello) = tokio::select! {
        answered = answer() => answered,
        () = fixture.pass(20 * SECOND) => panic!("nobody is asked any more"),
    };
    assert!(hello.probe);
    peer.send([authority.welcome_from(WelcomeMode::Resume, fixture.wall())]).await;
    let (peer, hello) = answer().await;
    assert!(!hello.probe && hello.reconnect_reason.contains("heard the authority later"), "{hello:?}");
    assert!(!first.is_heard());
    peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
    peer.send(authority.snapshot(fixture.wall())).await;
    fixture.sees(|status| status.state == FollowerState::Live && status.revision == Revision(2)).await;
    fixture.pass(SECOND).await;
    assert!(peers_of_second.try_recv().is_err() && fixture.peers.try_recv().is_err(), "all is well");
}

#[tokio::test(start_paused = true)]
async fn a_contradicted_set_goes_on_revoking_and_tells_nobody_that_all_is_well() {
    let mut authority = Authority::new(1, Policy::default());
    let (mut fixture, peer) = Fixture::new().live(&mut authority).await;
    authority.revoke("lost");
    peer.send([authority.revoke("eve")]).await;
    fixture.sees(|status| status.state == FollowerState::Diverged).await;
    assert_eq!(fixture.check("alice").verdict, Verdict::Unknown(UnknownCause::Diverged));
    assert!(matches!(fixture.check("mallory").verdict, Verdict::Revoked(_)));
    let answer = fixture.check("eve");
    assert!(matches!(answer.verdict, Verdict::Revoked(_)), "merged in");
    assert_eq!(answer.position.revision, Revision(1), "the verified position is frozen");
    assert_eq!(fixture.replica().status().counts.divergences, 1);
    let _peer = fixture.accept_snapshot(&authority).await;
    fixture.reaches(Revision(3)).await;
    assert_eq!(fixture.check("alice").verdict, Verdict::NotRevoked);
    assert!(matches!(fixture.check("lost").verdict, Verdict::Revoked(_)));
}

#[tokio::test(start_paused = true)]
async fn a_set_larger_than_allowed_is_not_held_in_part() {
    let mut authority = Authority::new(1, Policy::default());
    let mut fixture = Fixture::with(|options| options.entries_max = 1);
    authority.revoke("mallory");
    authority.revoke("eve");
    let mut peer = fixture.accept_snapshot_begin(&authority).await;
    while peer.receive().await.is_some() {}
    assert_eq!(fixture.check("alice").verdict, Verdict::Unknown(UnknownCause::OverLimit));
    assert!(fixture.told().iter().any(|line| line.starts_with("alarm: the set has 2 entries")), "{:?}", fixture.told());
}

impl Fixture {
    /// The next connection, with the beginning of a snapshot only.
    async fn accept_snapshot_begin(&mut self, authority: &Authority) -> Peer {
        let mut peer = self.peers.recv().await.unwrap();
        peer.hello().await;
        let begin: Option<ToSubscriber> = authority.snapshot(self.wall()).into_iter().next();
        peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
        peer.send(begin).await;
        peer
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_epoch_revoked_stays_revoked_when_its_history_is_lost() {
    let mut authority = Authority::new(1, Policy::default());
    let (mut fixture, peer) = Fixture::new().live(&mut authority).await;
    drop(peer);
    let mut restored = Authority::new(2, Policy::default());
    restored.revoke("eve");
    let _peer = fixture.accept_snapshot(&restored).await;
    fixture.sees(|status| status.epoch == Some(restored.epoch)).await;
    assert!(matches!(fixture.check("mallory").verdict, Verdict::Revoked(_)));
    assert!(matches!(fixture.check("eve").verdict, Verdict::Revoked(_)));
    assert_eq!(fixture.check("alice").verdict, Verdict::NotRevoked);
    assert_eq!(fixture.replica().status().residues, 1);
}

#[tokio::test(start_paused = true)]
async fn an_accepted_loss_ends_what_its_generation_kept_in_force_and_no_more() {
    let mut first = Authority::new(1, Policy::default());
    let (mut fixture, peer) = Fixture::new().live(&mut first).await;
    drop(peer);
    let mut second = Authority::new(2, Policy::default());
    second.revoke("eve");
    let peer = fixture.accept_snapshot(&second).await;
    fixture.sees(|status| status.epoch == Some(second.epoch)).await;
    drop(peer);
    let mut third = Authority::new(3, Policy::default());
    third.revoke("other");
    let peer = fixture.accept_snapshot(&third).await;
    fixture.sees(|status| status.epoch == Some(third.epoch)).await;
    assert_eq!(fixture.replica().status().residues, 2);
    peer.send([third.accept_loss(1)]).await;
    fixture.reaches(Revision(2)).await;
    assert_eq!(fixture.check("mallory").verdict, Verdict::NotRevoked, "generation 1 is given up");
    assert!(matches!(fixture.check("eve").verdict, Verdict::Revoked(_)), "generation 2 is not");
    peer.send([third.accept_loss(2)]).await;
    fixture.reaches(Revision(3)).await;
    assert_eq!(fixture.check("eve").verdict, Verdict::NotRevoked);
    assert!(matches!(fixture.check("other").verdict, Verdict::Revoked(_)));
    assert_eq!(fixture.replica().status().residues, 0);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_epoch_revoked_ends_with_the_last_of_it_and_never_while_one_never_expires() {
    let last = Minute::at(40_000_000).unwrap();
    for (expiry, left) in [(last, 0), (Minute::NEVER, 1)] {
        let mut first = Authority::new(1, Policy::default());
        first.revoke_until("early", Minute::at(100).unwrap());
        first.revoke_until("late", expiry);
        let mut fixture = Fixture::new();
        let peer = fixture.accept_snapshot(&first).await;
        fixture.replica().ready(SECOND).await.unwrap();
        drop(peer);
        let mut second = Authority::new(2, Policy::default());
        second.revoke("eve");
        let peer = fixture.accept_snapshot(&second).await;
        fixture.sees(|status| status.epoch == Some(second.epoch)).await;
        peer.send([second.expire(Minute::at(last.bits() - 1).unwrap())]).await;
        fixture.reaches(Revision(2)).await;
        assert_eq!(fixture.replica().status().residues, 1, "one of its entries lives");
        assert!(matches!(fixture.check("late").verdict, Verdict::Revoked(_)));
        peer.send([second.expire(last)]).await;
        fixture.reaches(Revision(3)).await;
        assert_eq!(fixture.replica().status().residues, left, "{expiry:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_the_goodbye_a_replica_knows_what_is_revoked_and_nothing_else() {
    let mut authority = Authority::new(1, Policy::default());
    let (fixture, mut peer) = Fixture::new().live(&mut authority).await;
    let replica = Arc::clone(fixture.driver.replica());
    assert!(matches!(replica.check(&claims("alice"), None).verdict, Verdict::NotRevoked));
    let server = async {
        while peer.receive().await.is_some() {}
        let verdict = replica.check(&claims("alice"), None).verdict;
        assert_eq!(verdict, Verdict::Unknown(UnknownCause::Stale), "before the server hears the goodbye");
        assert!(peer.is_heard(), "it waits for the server to agree");
        drop(peer);
    };
    tokio::join!(fixture.driver.shutdown(), server);
    assert!(matches!(replica.check(&claims("mallory"), None).verdict, Verdict::Revoked(_)));
    assert_eq!(replica.check(&claims("alice"), None).verdict, Verdict::Unknown(UnknownCause::Stale));
    let status = replica.status();
    assert_eq!((status.ready, status.stale), (false, true));
}

#[tokio::test(start_paused = true)]
async fn verifiers_see_the_verification_policy_and_each_change_of_it() {
    let mut authority = Authority::new(1, Policy::default());
    let (mut fixture, peer) = Fixture::new().live(&mut authority).await;
    let replica = Arc::clone(fixture.driver.replica());
    let policies: &dyn VerificationPolicies = &*replica;
    assert_eq!(policies.current(), None);
    peer.send([authority.verify("orders")]).await;
    let first = policies.changed(None).await.expect("it was applied");
    assert_eq!((first.version, first.policy.class("orders").is_some()), (1, true));
    assert_eq!(policies.current().as_ref(), Some(&first));
    let waiting = policies.changed(Some(Arc::clone(&first)));
    peer.send([authority.revoke("eve"), authority.verify("payments")]).await;
    let second = waiting.await.expect("it was applied");
    assert_eq!((second.version, second.policy.class("orders").is_none()), (2, true));

    authority.verify("carts");
    drop(peer);
    let _peer = fixture.accept_snapshot(&authority).await;
    let third = policies.changed(Some(second)).await.expect("it came with the snapshot");
    assert_eq!((third.version, third.policy.class("carts").is_some()), (3, true));
}
