//! Credentials are what the log says, whatever was restarted, pruned or cut into snapshots meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::durable::{Recorder, START};
use crate::authority::Options;
use crate::authority::manual::{ManualAuthority, recover};
use crate::clock::{Clock, ManualTime};
use crate::journal::memory::{Fault, MemoryDisk};
use crate::journal::{CredentialAction, Identity};
use crate::revocation::grant::Role;
use crate::revocation::ports::{
    Caller, Credential, CredentialError, CredentialHash, CredentialId, CutoffChoice, ExpiryChoice, Revoke,
    RevokeRequest, Target, WriteError,
};
use crate::revocation::{Grant, Selector, TestedClaim, UnixMillis, UnixSeconds};

/// An authority on a disk in memory, with its snapshots in a folder.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub(super) disk: MemoryDisk,
    pub(super) time: Arc<ManualTime>,
    pub(super) running: ManualAuthority,
    revoked: u32,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = MemoryDisk::new(Identity::generate(START).unwrap());
        let time = ManualTime::starting_at(START);
        let running = start(dir.path(), &disk, &time);
        Self { dir, disk, time, running, revoked: 0 }
    }

    pub(super) fn restart(&mut self) {
        self.running = start(self.dir.path(), &self.disk, &self.time);
    }

    fn create(&mut self, credential: Credential) -> Result<(), CredentialError> {
        self.running.change_credentials(caller(), CredentialAction::Create(Box::new(credential))).map(drop)
    }

    fn revoke(&mut self, id: u8) -> Result<(), CredentialError> {
        self.running.change_credentials(caller(), CredentialAction::Revoke(vec![CredentialId([id; 8])])).map(drop)
    }

    /// Revokes some tokens, so that a snapshot becomes due.
    pub(super) fn write(&mut self) {
        let items = (0..40)
            .map(|index| {
                let jti = format!("{}-{index}", self.revoked);
                Revoke {
                    target: Target::Selector(Selector::new([("jti", jti.as_str())], TestedClaim::Iat).unwrap()),
                    cutoff: CutoffChoice::Natural,
                    expiry: ExpiryChoice::In(Duration::from_secs(60)),
                    exceptions: vec![],
                    reason: String::new(),
                }
            })
            .collect();
        self.revoked += 1;
        let request = RevokeRequest {
            caller: caller(),
            request_id: None,
            body_hash: [0; 32],
            items,
            dry_run: false,
            any_issuer: false,
            confirmed: false,
        };
        let mut asked = self.running.revoke(request);
        self.running.step();
        asked.poll().unwrap().unwrap();
        // Snapshots are taken over, and records pruned, on the rounds after.
        (0..4).for_each(|_| self.running.step());
    }

    pub(super) fn snapshots(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("snapshots")).unwrap().count()
    }

    pub(super) fn oldest(&self) -> u64 {
        let journal = self.disk.open().unwrap();
        crate::journal::Journal::reader(&journal).unwrap().oldest().unwrap().0
    }
}

fn start(dir: &Path, disk: &MemoryDisk, time: &Arc<ManualTime>) -> ManualAuthority {
    let options = Options {
        audit_retention: Duration::ZERO,
        snapshot_bytes_min: 1 << 10,
        ..Options::new(dir.to_owned(), Clock::manual(Arc::clone(time)))
    };
    let recovered = recover(options, Box::new(disk.open().unwrap())).unwrap();
    ManualAuthority::start(recovered, Arc::<Recorder>::default())
}

pub(super) fn caller() -> Caller {
    Caller { principal: "root".into(), peer: "127.0.0.1".into(), grant: Grant::everything() }
}

fn credential(id: u8, expires_at: Option<UnixSeconds>) -> Credential {
    Credential {
        id: CredentialId([id; 8]),
        name: format!("gateway {}", id % 3),
        grant: Grant { roles: [Role::Check].into_iter().collect(), ..Grant::default() },
        hash: CredentialHash { salt: [id; 16], digest: [id; 32] },
        expires_at,
        created_at: UnixMillis(0),
        created_by: "whoever".into(),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(u8, Option<u8>),
    Revoke(u8),
    Write,
    Sleep(u8),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..12, prop::option::of(0u8..80)).prop_map(|(id, hours)| Step::Create(id, hours)),
        2 => (0u8..12).prop_map(Step::Revoke),
        3 => Just(Step::Write),
        2 => (1u8..40).prop_map(Step::Sleep),
        2 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn credentials_are_what_was_acknowledged(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut bench = Bench::new();
        let mut model: BTreeMap<CredentialId, Option<UnixSeconds>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Create(id, hours) => {
                    let now = bench.running.now().seconds();
                    let expires = hours.map(|hours| now.plus(u64::from(hours) * 3600));
                    match bench.create(credential(id, expires)) {
                        Ok(()) => prop_assert_eq!(model.insert(CredentialId([id; 8]), expires), None),
                        Err(_) => prop_assert!(model.contains_key(&CredentialId([id; 8]))),
                    }
                }
                Step::Revoke(id) => {
                    let known = model.remove(&CredentialId([id; 8])).is_some();
                    prop_assert_eq!(bench.revoke(id).is_ok(), known);
                }
                Step::Write => bench.write(),
                Step::Sleep(hours) => bench.time.advance(Duration::from_secs(u64::from(hours) * 3600)),
                Step::Restart => bench.restart(),
            }
            let floor = bench.running.set().stamp().floor.seconds().unwrap();
            model.retain(|_, expires| expires.is_none_or(|at| at > floor));
            let kept: BTreeMap<_, _> = bench.running.credentials().iter().map(|c| (c.id, c.expires_at)).collect();
            prop_assert_eq!(&kept, &model);
        }
    }
}

#[test]
fn a_credential_outlives_its_record() {
    let mut bench = Bench::new();
    bench.create(credential(1, None)).unwrap();
    bench.create(credential(2, None)).unwrap();
    bench.revoke(2).unwrap();
    for _ in 0..6 {
        bench.time.advance(Duration::from_secs(30 * 3600));
        bench.write();
    }
    assert!(bench.snapshots() > 0);
    assert!(bench.oldest() > 5, "the records were pruned");
    let before = bench.running.credentials();
    bench.restart();
    assert_eq!(bench.running.credentials(), before);
    let [kept] = &before[..] else { panic!("{before:?}") };
    assert_eq!((kept.id, kept.created_by.as_str(), kept.created_at), (CredentialId([1; 8]), "root", START));
    assert_eq!(kept.hash, credential(1, None).hash);
}

#[test]
fn what_is_not_durable_is_no_credential() {
    let mut bench = Bench::new();
    bench.create(credential(1, None)).unwrap();
    bench.disk.set_fault(Some(Fault::Full));
    let refused = bench.create(credential(2, None)).unwrap_err();
    assert!(matches!(refused, CredentialError::Write(WriteError::Unavailable(_))), "{refused:?}");
    assert!(matches!(bench.revoke(1), Err(CredentialError::Write(WriteError::Unavailable(_)))));
    let ids = |bench: &Bench| bench.running.credentials().iter().map(|c| c.id.0[0]).collect::<Vec<_>>();
    assert_eq!(ids(&bench), [1]);
    bench.disk.set_fault(None);
    bench.restart();
    assert_eq!(ids(&bench), [1]);
    assert_eq!(bench.revoke(2), Err(CredentialError::NotFound));
    bench.revoke(1).unwrap();
    assert_eq!(bench.revoke(1), Err(CredentialError::NotFound));
}

/// What is logged, as text.
#[derive(Clone, Default)]
struct Lines(Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_logged_once_however_many_are_refused_and_again_after_it_had_space() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut bench = Bench::new();
        for _ in 0..2 {
            bench.disk.set_fault(Some(Fault::Full));
            for id in 1..20 {
                bench.create(credential(id, None)).unwrap_err();
                bench.time.advance(Duration::from_secs(2));
                bench.running.step();
            }
            bench.disk.set_fault(None);
            bench.write();
        }
    });
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("the disk is full")).count(), 2, "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("accepts writes again")).count(), 2, "{text}");
}

#[test]
fn an_expired_credential_goes_with_the_floor_and_makes_room() {
    let mut bench = Bench::new();
    let soon = START.seconds().plus(60);
    let id = |number: u32| {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        CredentialId(bytes)
    };
    for number in 0..crate::revocation::ports::CREDENTIALS_MAX as u32 {
        bench.create(Credential { id: id(number), ..credential(1, Some(soon)) }).unwrap();
    }
    assert_eq!(bench.create(credential(200, None)), Err(CredentialError::TooMany));
    bench.time.advance(Duration::from_secs(3 * 3600));
    bench.create(credential(200, None)).unwrap();
    assert_eq!(bench.running.credentials().len(), 1);
}
