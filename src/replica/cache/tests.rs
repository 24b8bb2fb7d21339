//! A cache against restarts, kills, damage, strangers and a full disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::clock::ManualTime;
use crate::replica::testing::{Authority, BEGIN, Peer, Server, WelcomeMode};
use crate::replica::{Driver, DriverOptions, FollowerState, Keep, PolicyInForce, PublicKey, Upstream};
use crate::replication::frames::{Held, ToSubscriber};
use crate::replication::{Follower, FollowerOptions};
use crate::revocation::{Claims, Policy, Position, Revision, UnixSeconds, UnknownCause, Verdict, WhenStale};

const SECOND: Duration = Duration::from_secs(1);

fn options(change: impl FnOnce(&mut FollowerOptions)) -> FollowerOptions {
    let mut options = FollowerOptions::leaf(NodeId([1; 16]), "test", 7);
    change(&mut options);
    options
}

/// A replica with a cache, and the server it follows.
fn spawn(dir: &Path, change: impl FnOnce(&mut FollowerOptions)) -> (Driver, Arc<Server>, mpsc::Receiver<Peer>) {
    follow(open(dir, u64::MAX, Clock::manual(ManualTime::starting_at(BEGIN))).unwrap(), change)
}

fn follow(cache: Opened, change: impl FnOnce(&mut FollowerOptions)) -> (Driver, Arc<Server>, mpsc::Receiver<Peer>) {
    let (server, peers) = Server::new("server");
    let clock = Clock::manual(ManualTime::starting_at(BEGIN));
    let options = DriverOptions {
        follower: options(change),
        upstreams: vec![Arc::clone(&server) as Arc<dyn Upstream>],
        clock,
        observer: None,
        keepers: Vec::new(),
        below: None,
        cache: Some(cache),
    };
    (Driver::spawn(options, &tokio::runtime::Handle::current()), server, peers)
}

async fn sees(driver: &Driver, state: FollowerState) {
    let mut statuses = driver.replica().subscribe();
    let seen = tokio::time::timeout(60 * SECOND, statuses.wait_for(|status| status.state == state)).await;
    assert!(seen.is_ok(), "still {:?}", driver.replica().status());
}

fn verdict(driver: &Driver, sub: &str) -> Verdict {
    let mut claims = Claims::new();
    claims.push("sub", sub, false);
    claims.iat = Some(UnixSeconds(BEGIN.0 / 1000));
    claims.exp = Some(UnixSeconds(BEGIN.0 / 1000 + 3600));
    driver.replica().check(&claims, None).verdict
}

fn held(authority: &Authority) -> Held {
    let ToSubscriber::Heartbeat(word) = authority.heartbeat(BEGIN) else { panic!("no heartbeat") };
    Held { epoch: authority.epoch, revision: word.revision, digest: word.digest }
}

/// Follows `authority` from a snapshot, then by three deltas, of which the last is not signed for; then stops. The states it
/// went through.
async fn fill(dir: &Path, authority: &mut Authority) -> Vec<Held> {
    fill_watched(dir, authority).await.0
}

/// The same, and how the cache did.
async fn fill_watched(dir: &Path, authority: &mut Authority) -> (Vec<Held>, Condition) {
    let cache = open(dir, u64::MAX, Clock::manual(ManualTime::starting_at(BEGIN))).unwrap();
    let gauge = cache.gauge();
    let (driver, _server, mut peers) = follow(cache, |_| ());
    let mut history = vec![held(authority)];
    let mut peer = peers.recv().await.unwrap();
    peer.hello().await;
    peer.send([authority.welcome(WelcomeMode::Snapshot)]).await;
    peer.send(authority.snapshot(BEGIN)).await;
    for (index, sub) in ["b", "c", "d"].into_iter().enumerate() {
        let delta = authority.revoke(sub);
        peer.send([delta]).await;
        if index < 2 {
            peer.send([authority.heartbeat(BEGIN)]).await;
        }
        history.push(held(authority));
    }
    let position = Position { epoch: authority.epoch.id, revision: authority.revision() };
    driver.replica().reached(position, 10 * SECOND).await.unwrap();
    driver.shutdown().await;
    (history, gauge.read())
}

fn authority(generation: u64) -> Authority {
    let mut authority = Authority::new(generation, Policy::default());
    authority.revoke(&format!("first of {generation}"));
    authority
}

/// What a follower holds that begins from these files.
fn load(dir: &Path) -> Option<Held> {
    let (kept, _) = read::main(dir, u64::MAX)?;
    let mut follower = Follower::new(options(|_| ()));
    follower.handle_cache(kept).ok()?;
    let status = follower.status();
    Some(Held { epoch: status.epoch?, revision: status.revision, digest: status.digest })
}

fn deltas_path(dir: &Path) -> PathBuf {
    let mut names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("deltas-")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_restart_answers_before_any_server_does_and_resumes_without_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let mut authority = authority(1);
    let before = fill(dir.path(), &mut authority).await;
    let id = open(dir.path(), u64::MAX, Clock::system()).unwrap().subscriber();

    let (driver, server, mut peers) = spawn(dir.path(), |_| ());
    server.refuse(true);
    sees(&driver, FollowerState::Warm).await;
    let status = driver.replica().status();
    assert_eq!((status.staleness, status.stale, status.ready), (Duration::MAX, true, false));
    assert!(matches!(verdict(&driver, "d"), Verdict::Revoked(_)));
    assert!(matches!(verdict(&driver, "nobody"), Verdict::NotRevoked));

    server.refuse(false);
    let mut peer = peers.recv().await.unwrap();
    let hello = peer.hello().await;
    assert_eq!((hello.held, hello.subscriber), (before.last().copied(), id));
    let delta = authority.revoke("e");
    peer.send([authority.welcome(WelcomeMode::Resume), delta, authority.heartbeat(BEGIN)]).await;
    driver.replica().ready(10 * SECOND).await.unwrap();
    assert!(matches!(verdict(&driver, "e"), Verdict::Revoked(_)));
    assert_eq!(driver.replica().status().staleness, Duration::ZERO);
    driver.shutdown().await;
    assert_eq!(load(dir.path()), Some(held(&authority)), "what came after the restart is kept too");
}

#[tokio::test(start_paused = true)]
async fn under_deny_a_warm_replica_denies_until_it_is_live() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &mut authority(1)).await;
    let policy = PolicyInForce { max_staleness: 10 * SECOND, when_stale: WhenStale::Deny };
    let (driver, _server, _peers) = spawn(dir.path(), |options| options.local_policy = Some(policy));
    sees(&driver, FollowerState::Warm).await;
    assert!(matches!(verdict(&driver, "nobody"), Verdict::Unknown(UnknownCause::Stale)));
    assert!(matches!(verdict(&driver, "d"), Verdict::Revoked(_)));
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_byte_of_the_deltas_leaves_a_set_that_was_true() {
    let dir = TempDir::new().unwrap();
    let history = fill(dir.path(), &mut authority(1)).await;
    let path = deltas_path(dir.path());
    let whole = fs::read(&path).unwrap();
    let mut reached = Revision(0);
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let held = load(dir.path()).expect("a torn tail is cut, not refused");
        assert!(history.contains(&held), "{length}: {held:?}");
        assert!(held.revision >= reached, "more bytes never tell less");
        reached = held.revision;
    }
    assert_eq!(reached, history.last().unwrap().revision);
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_is_written_over_and_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut authority = authority(1);
    fill(dir.path(), &mut authority).await;
    let path = deltas_path(dir.path());
    let length = fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(length - 3).unwrap();
    drop(open(dir.path(), u64::MAX, Clock::system()).unwrap());
    assert!(fs::metadata(&path).unwrap().len() < length - 3);
    assert_eq!(load(dir.path()).unwrap().revision.0, authority.revision().0 - 1);
}

#[tokio::test(start_paused = true)]
async fn no_flipped_bit_anywhere_makes_a_set_that_was_never_true() {
    let dir = TempDir::new().unwrap();
    let history = fill(dir.path(), &mut authority(1)).await;
    for path in [dir.path().join("snapshot"), deltas_path(dir.path())] {
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let held = load(dir.path());
            assert!(held.is_none_or(|held| history.contains(&held)), "{}: {at}: {held:?}", path.display());
            assert!(path.ends_with("snapshot") == held.is_none(), "{}: {at}: {held:?}", path.display());
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(load(dir.path()), history.last().copied());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_cut_anywhere_is_no_cache() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &mut authority(1)).await;
    let path = dir.path().join("snapshot");
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(load(dir.path()), None, "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_authoritys_cache_or_deltas_are_not_used() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    fill(ours.path(), &mut authority(1)).await;
    fill(theirs.path(), &mut authority(2)).await;
    let (driver, server, _peers) = spawn(ours.path(), |options| options.public_key = Some(PublicKey([3; 32])));
    server.refuse(true);
    tokio::time::sleep(SECOND).await;
    assert_eq!(driver.replica().status().state, FollowerState::Init);
    assert!(matches!(verdict(&driver, "d"), Verdict::Unknown(UnknownCause::NeverSynced)));
    driver.shutdown().await;
    // Deltas of another epoch under the right name: cut at once.
    fs::copy(deltas_path(theirs.path()), deltas_path(ours.path())).unwrap();
    assert_eq!(load(ours.path()).unwrap().revision, Revision(1));
}

#[tokio::test(start_paused = true)]
async fn one_process_at_a_time_and_only_its_owner_reads() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("cache");
    fill(&dir, &mut authority(1)).await;
    let first = open(&dir, u64::MAX, Clock::system()).unwrap();
    let second = open(&dir, u64::MAX, Clock::system()).unwrap_err();
    assert!(matches!(&second, CacheError::Locked { dir: named } if *named == dir), "{second}");
    let id = first.subscriber();
    drop(first);
    assert_eq!(open(&dir, u64::MAX, Clock::system()).unwrap().subscriber(), id);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_costs_the_cache_only_and_the_next_snapshot_is_kept() {
    let dir = TempDir::new().unwrap();
    let full = dir.path().join("snapshot.partial");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let mut authority = authority(1);
    // Reaches every revision all the same.
    let (_, condition) = fill_watched(dir.path(), &mut authority).await;
    assert_eq!(load(dir.path()), None);
    assert_eq!(condition, Condition { failures: 1, is_broken: true, ..Condition::default() });
    fs::remove_file(full).unwrap();
    let mut authority = self::authority(1);
    fill(dir.path(), &mut authority).await;
    assert_eq!(load(dir.path()), Some(held(&authority)));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_and_how_far_is_told() {
    let dir = TempDir::new().unwrap();
    let mut authority = authority(1);
    let (_, condition) = fill_watched(dir.path(), &mut authority).await;
    let size = |path: PathBuf| fs::metadata(path).unwrap().len();
    let bytes = size(dir.path().join("snapshot")) + size(deltas_path(dir.path()));
    // A snapshot and three deltas, which are signed: words about the same say no more.
    let (writes, revision) = (4, authority.revision());
    assert_eq!(condition, Condition { writes, failures: 0, is_broken: false, bytes, revision });
    let reopened = open(dir.path(), u64::MAX, Clock::system()).unwrap().gauge().read();
    assert_eq!(reopened, Condition { writes: 0, ..condition });
}

#[tokio::test(start_paused = true)]
async fn a_set_that_stays_in_force_does_so_after_a_restart() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &mut authority(1)).await;
    let next = authority(2);
    let (driver, _server, mut peers) = spawn(dir.path(), |_| ());
    let mut peer = peers.recv().await.unwrap();
    peer.hello().await;
    peer.send([next.welcome(WelcomeMode::Snapshot)]).await;
    peer.send(next.snapshot(BEGIN)).await;
    driver.replica().ready(10 * SECOND).await.unwrap();
    driver.shutdown().await;

    let (driver, server, _peers) = spawn(dir.path(), |_| ());
    server.refuse(true);
    sees(&driver, FollowerState::Warm).await;
    assert_eq!(driver.replica().residues(), [1]);
    for sub in ["first of 1", "d", "first of 2"] {
        assert!(matches!(verdict(&driver, sub), Verdict::Revoked(_)), "{sub}");
    }
    driver.shutdown().await;

    // A residue that cannot be read is not forgotten in silence.
    fs::write(dir.path().join("residue-1.snapshot"), b"damaged").unwrap();
    let (driver, server, _peers) = spawn(dir.path(), |_| ());
    server.refuse(true);
    sees(&driver, FollowerState::Warm).await;
    assert!(matches!(verdict(&driver, "d"), Verdict::Unknown(UnknownCause::Diverged)));
    driver.shutdown().await;

    // Once the loss is accepted, nothing of it is left.
    let mut opened = open(dir.path(), u64::MAX, Clock::system()).unwrap();
    opened.keeper.handle_residues(&[]);
    drop(opened);
    let opened = open(dir.path(), u64::MAX, Clock::system()).unwrap();
    assert!(opened.residues.is_empty() && !opened.residue_lost);
}
