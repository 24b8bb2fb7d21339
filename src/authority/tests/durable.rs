//! The commit path through a real journal: what is acknowledged is there after a restart, and nothing else is.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::authority::commit::Work;
use crate::authority::credentials::CredentialView;
use crate::authority::decide::{Answer, Decided, ResolvedReinstate};
use crate::authority::vitals::Vitals;
use crate::authority::{Image, Options, Publish, Published, RecoverError, recover};
use crate::clock::{Clock, ManualTime};
use crate::journal::CredentialAction;
use crate::revocation::ports::{
    AcceptLossError, AuditHead, Caller, CredentialError, CutoffChoice, ExpiryChoice, ReinstateReply, Revoke,
    RevokeReply, RevokeRequest, Target, WriteError,
};
use crate::revocation::{
    Claims, Delta, Digest, Grant, Policy, Position, Revision, RevocationId, RevocationSet, Selector, TestedClaim,
    UnixMillis, UnixSeconds,
};

pub(super) const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// Remembers what was published.
#[derive(Default)]
pub(super) struct Recorder {
    deltas: Mutex<Vec<Published>>,
    pub(super) images: Mutex<Vec<Arc<Image>>>,
}

impl Publish for Recorder {
    fn publish(&self, published: Published) {
        self.deltas.lock().push(published);
    }

    fn offer_snapshot(&self, image: Arc<Image>) {
        self.images.lock().push(image);
    }

    fn pruned(&self, _oldest: Revision) {}
}

/// A running commit thread.
pub(super) struct Server {
    queue: SyncSender<Work>,
    thread: Option<JoinHandle<()>>,
    pub(super) set: Arc<RevocationSet>,
    pub(super) published: Arc<Recorder>,
    pub(super) credentials: Arc<CredentialView>,
    vitals: Arc<Vitals>,
}

impl Server {
    pub(super) fn start(dir: &Path, time: &Arc<ManualTime>, policy: Policy) -> Self {
        Self::try_start(dir, time, policy).unwrap()
    }

    pub(super) fn try_start(dir: &Path, time: &Arc<ManualTime>, policy: Policy) -> Result<Self, RecoverError> {
        let options = Options::new(dir.to_owned(), Clock::manual(Arc::clone(time)));
        let recovered = recover(Options { policy, snapshot_bytes_min: 64 << 10, ..options })?;
        let set = Arc::clone(recovered.state().set());
        let credentials = Arc::clone(recovered.state().credentials().view());
        let published: Arc<Recorder> = Arc::default();
        let vitals: Arc<Vitals> = Arc::default();
        let (queue, inbox) = sync_channel(64);
        let committer =
            recovered.into_committer(Arc::clone(&published) as Arc<dyn Publish>, Arc::clone(&vitals), inbox);
        let thread = std::thread::spawn(move || committer.run());
        Ok(Self { queue, thread: Some(thread), set, published, credentials, vitals })
    }

    /// As `request` says.
    pub(super) fn ask_to_revoke(&self, request: RevokeRequest) -> Result<RevokeReply, WriteError> {
        self.ask(|answer| Work::Revoke(request, answer)).map(now)
    }

    fn ask<T>(&self, work: impl FnOnce(Answer<T>) -> Work) -> Result<Decided<T>, WriteError> {
        let (answer, decided) = oneshot::channel();
        self.queue.send(work(answer)).unwrap();
        decided.blocking_recv().unwrap()
    }

    fn revoke_with(
        &self,
        id: Option<&str>,
        items: Vec<Revoke>,
        dry_run: bool,
    ) -> Result<Decided<RevokeReply>, WriteError> {
        let body_hash = [items.len() as u8; 32];
        let request_id = id.map(str::to_owned);
        let request = RevokeRequest {
            caller: caller(),
            request_id,
            body_hash,
            items,
            dry_run,
            any_issuer: false,
            confirmed: true,
        };
        self.ask(|answer| Work::Revoke(request, answer))
    }

    pub(super) fn revoke(&self, items: Vec<Revoke>) -> Result<RevokeReply, WriteError> {
        self.revoke_with(None, items, false).map(now)
    }

    pub(super) fn reinstate(&self, items: Vec<(Selector, Option<RevocationId>)>) -> Result<ReinstateReply, WriteError> {
        self.reinstate_as(caller(), items)
    }

    pub(super) fn reinstate_as(
        &self,
        caller: Caller,
        items: Vec<(Selector, Option<RevocationId>)>,
    ) -> Result<ReinstateReply, WriteError> {
        let request = ResolvedReinstate {
            caller,
            request_id: None,
            body_hash: [0; 32],
            items,
            reason: String::new(),
            dry_run: false,
        };
        self.ask(|answer| Work::Reinstate(request, answer)).map(now)
    }

    pub(super) fn accept_loss(&self, generation: u64) -> Result<Position, AcceptLossError> {
        let (answer, decided) = oneshot::channel();
        self.queue.send(Work::AcceptLoss(caller(), generation, answer)).unwrap();
        decided.blocking_recv().unwrap()
    }

    pub(super) fn change_credentials(&self, action: CredentialAction) -> Result<Position, CredentialError> {
        let (answer, decided) = oneshot::channel();
        self.queue.send(Work::Credentials(caller(), action, answer)).unwrap();
        decided.blocking_recv().unwrap()
    }

    pub(super) fn audit_head(&self) -> AuditHead {
        self.vitals.audit_head()
    }

    pub(super) fn revokes(&self, name: &str, value: &str) -> bool {
        let mut claims = Claims::new();
        claims.push(name, value, false);
        claims.iat = Some(UnixSeconds(START.0 / 1000 - 100));
        self.set.check(&claims, START.seconds()).hit.is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.queue.send(Work::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn now<T>(decided: Decided<T>) -> T {
    match decided {
        Decided::Now(reply) => reply,
        Decided::Earlier(_) => panic!("no earlier request"),
    }
}

pub(super) fn caller() -> Caller {
    Caller { principal: "tester".into(), peer: "127.0.0.1".into(), grant: Grant::everything() }
}

pub(super) fn selector(name: &str, value: &str) -> Selector {
    Selector::new([(name, value)], TestedClaim::Iat).unwrap()
}

pub(super) fn item(name: &str, value: &str) -> Revoke {
    Revoke {
        target: Target::Selector(selector(name, value)),
        cutoff: CutoffChoice::Natural,
        expiry: ExpiryChoice::Natural,
        exceptions: vec![],
        reason: String::new(),
    }
}

pub(super) fn fixture() -> (tempfile::TempDir, Arc<ManualTime>) {
    (tempfile::tempdir().unwrap(), ManualTime::starting_at(START))
}

#[test]
fn what_is_acknowledged_is_in_force_and_survives_a_restart() {
    let (dir, time) = fixture();
    let (digest, position) = {
        let server = Server::start(dir.path(), &time, Policy::default());
        let reply = server.revoke(vec![item("jti", "a"), item("sub", "alice")]).unwrap();
        assert!(server.revokes("jti", "a") && server.revokes("sub", "alice") && !server.revokes("jti", "b"));
        (server.set.digest(), reply.position.unwrap())
    };
    let server = Server::start(dir.path(), &time, Policy::default());
    assert!(server.revokes("jti", "a") && server.revokes("sub", "alice"));
    assert_eq!(server.set.digest(), digest, "a start record changes nothing but the position");
    assert_eq!(server.set.revision(), position.revision.next());
}

#[test]
fn nothing_recovered_is_published_before_the_start_record() {
    let (dir, time) = fixture();
    drop(Server::start(dir.path(), &time, Policy::default()));
    let server = Server::start(dir.path(), &time, Policy::default());
    let reply = server.revoke(vec![item("jti", "a")]).unwrap();
    let first = server.published.deltas.lock()[0].clone();
    assert_eq!(first.revision, reply.position.unwrap().revision, "the start records lie before what is published");
    assert_eq!(Delta::decode(&first.canonical).unwrap().digest_after, first.digest);
}

#[test]
fn a_repeat_is_known_across_a_restart_and_another_body_is_refused() {
    let (dir, time) = fixture();
    let first = {
        let server = Server::start(dir.path(), &time, Policy::default());
        now(server.revoke_with(Some("id-1"), vec![item("jti", "a")], false).unwrap())
    };
    let server = Server::start(dir.path(), &time, Policy::default());
    let before = server.set.revision();
    match server.revoke_with(Some("id-1"), vec![item("jti", "a")], false).unwrap() {
        Decided::Earlier(earlier) => assert_eq!(earlier.revision, first.position.unwrap().revision),
        Decided::Now(reply) => panic!("accepted twice: {reply:?}"),
    }
    let other = server.revoke_with(Some("id-1"), vec![item("jti", "a"), item("jti", "b")], false);
    assert_eq!(other.unwrap_err(), WriteError::RequestIdReused);
    assert_eq!(server.set.revision(), before);
}

#[test]
fn a_refused_request_and_a_dry_run_change_nothing() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy { max_entries: 2, ..Policy::default() });
    let before = (server.set.revision(), server.set.digest());
    let three = || ["a", "b", "c"].map(|jti| item("jti", jti)).to_vec();
    assert_eq!(server.revoke(three()).unwrap_err(), WriteError::TooManyEntries { limit: 2 });
    let late = Revoke { cutoff: CutoffChoice::At(UnixSeconds(u64::MAX)), ..item("sub", "a") };
    match server.revoke(vec![item("jti", "a"), late]).unwrap_err() {
        WriteError::Invalid(violations) => assert_eq!(violations[0].field, "revocations[1].cutoff_seconds"),
        other => panic!("{other}"),
    }
    let tried = now(server.revoke_with(None, vec![item("jti", "a")], true).unwrap());
    assert_eq!((tried.position, tried.outcomes[0].id), (None, None));
    assert_eq!((server.set.revision(), server.set.digest()), before);
    assert!(server.revoke(vec![item("jti", "a"), item("jti", "b")]).is_ok());
}

#[test]
fn the_thirty_third_shape_is_refused_and_lists_the_active_ones() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    server.revoke((0..32).map(|i| item(&format!("claim{i}"), "v")).collect()).unwrap();
    match server.revoke(vec![item("one-more", "v")]).unwrap_err() {
        WriteError::TooManyShapes { active } => assert_eq!(active.len(), 32),
        other => panic!("{other}"),
    }
    server.reinstate(vec![(selector("claim7", "v"), None)]).unwrap();
    server.revoke(vec![item("one-more", "v")]).unwrap();
    assert_eq!(server.set.shapes().len(), 32);
}

#[test]
fn requests_that_gather_never_outgrow_their_record() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    // The same selector over and over: one change to the set, ten thousand revocations in the record.
    let answers: Vec<_> = (0..6)
        .map(|_| {
            let (answer, decided) = oneshot::channel();
            let items = vec![item("sub", "alice"); 10_000];
            let (caller, body_hash) = (caller(), [0; 32]);
            let request = RevokeRequest {
                caller,
                request_id: None,
                body_hash,
                items,
                dry_run: false,
                any_issuer: false,
                confirmed: true,
            };
            server.queue.send(Work::Revoke(request, answer)).unwrap();
            decided
        })
        .collect();
    for decided in answers {
        let reply = now(decided.blocking_recv().unwrap().unwrap());
        assert_eq!(reply.outcomes.len(), 10_000);
    }
    assert_eq!(server.set.entries(), 1);
}

#[test]
fn reinstating_by_id_leaves_the_others_and_by_selector_none() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let early = Revoke { cutoff: CutoffChoice::At(UnixSeconds(START.0 / 1000 - 200)), ..item("sub", "alice") };
    let first = server.revoke(vec![early]).unwrap().outcomes[0].clone();
    assert!(!server.revokes("sub", "alice"), "issued after that cutoff");
    let second = server.revoke(vec![item("sub", "alice")]).unwrap().outcomes[0].clone();
    assert!(second.merged && server.revokes("sub", "alice"));
    let undone = server.reinstate(vec![(selector("sub", "alice"), second.id)]).unwrap().undone;
    assert_eq!(undone, [vec![second.id.unwrap()]]);
    assert!(!server.revokes("sub", "alice"));
    assert_eq!(server.set.entries(), 1, "the earlier one stays");
    let undone = server.reinstate(vec![(selector("sub", "alice"), None)]).unwrap().undone;
    assert_eq!(undone, [vec![first.id.unwrap()]]);
    assert_eq!(server.set.entries(), 0);
}

#[test]
fn raising_a_lifetime_first_extends_what_was_to_expire_by_it() {
    let (dir, time) = fixture();
    let hours = |hours: u64| Policy { max_token_lifetime: Duration::from_secs(hours * 3600), ..Policy::default() };
    let expiry = {
        let server = Server::start(dir.path(), &time, hours(1));
        server.revoke(vec![item("sub", "alice")]).unwrap().outcomes[0].expiry
    };
    let server = Server::start(dir.path(), &time, hours(24));
    assert_eq!(server.set.policy(), hours(24));
    time.advance(Duration::from_secs(20 * 3600));
    server.revoke(vec![item("jti", "later")]).unwrap();
    assert!(server.set.floor() > expiry, "by the old lifetime it would be gone");
    assert!(server.revokes("sub", "alice"));
}

#[test]
fn expired_entries_leave_and_their_shape_with_them() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let short = Revoke { expiry: ExpiryChoice::In(Duration::from_secs(60)), ..item("sid", "s") };
    server.revoke(vec![short, item("jti", "a")]).unwrap();
    assert_eq!((server.set.entries(), server.set.shapes().len()), (2, 2));
    time.advance(Duration::from_secs(3 * 3600));
    server.revoke(vec![item("jti", "b")]).unwrap();
    assert_eq!((server.set.entries(), server.set.shapes().len()), (2, 1));
    assert!(!server.revokes("sid", "s"));
}

#[test]
fn a_restart_from_a_snapshot_equals_a_restart_from_the_journal() {
    let (dir, time) = fixture();
    let batch = |n: u32| (0..500).map(|i| item("jti", &format!("{n}-{i}"))).collect::<Vec<_>>();
    let digest = {
        let server = Server::start(dir.path(), &time, Policy::default());
        let mut n = 0;
        while server.published.images.lock().is_empty() {
            n += 1;
            assert!(n < 200, "no snapshot was cut");
            server.revoke(batch(n)).unwrap();
        }
        server.revoke(vec![item("sub", "after the snapshot")]).unwrap();
        server.reinstate(vec![(selector("jti", "1-0"), None)]).unwrap();
        server.set.digest()
    };
    let check = |digest: Digest| {
        let server = Server::start(dir.path(), &time, Policy::default());
        assert_eq!(server.set.digest(), digest);
        assert!(server.revokes("jti", "1-1") && server.revokes("sub", "after the snapshot"));
        assert!(!server.revokes("jti", "1-0"));
    };
    check(digest);
    // Without the snapshot the whole journal is replayed; with a damaged one, too.
    let snapshots = dir.path().join("snapshots");
    for entry in std::fs::read_dir(&snapshots).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    check(digest);
    std::fs::remove_dir_all(&snapshots).unwrap();
    check(digest);
}

#[test]
fn a_data_directory_serves_one_authority_at_a_time() {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let second = Server::try_start(dir.path(), &time, Policy::default());
    assert!(matches!(second.err(), Some(RecoverError::Open(crate::journal::OpenError::InUse { .. }))));
    assert_eq!(server.vitals.writes_refused(), None);
    assert_eq!(server.set.revision(), Revision(1));
}
