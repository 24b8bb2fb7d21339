//! Who is let in by what he brings, and who no longer is: without sockets, on a clock that is set by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::clock::ManualTime;
use crate::revocation::grant::Role;
use crate::revocation::ports::{Caller, Credential, CredentialError, Pending};
use crate::revocation::{Grant, Position, Revision, UnixMillis, UnixSeconds};
use crate::security::credential::{Minted, mint};

const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// Keeps credentials in memory, and counts who looks.
#[derive(Default)]
struct Kept {
    by_id: Mutex<BTreeMap<CredentialId, Credential>>,
    looked_up: AtomicU64,
    changes: AtomicU64,
}

impl Credentials for Kept {
    fn find(&self, id: CredentialId) -> Option<Credential> {
        self.looked_up.fetch_add(1, Ordering::Relaxed);
        self.by_id.lock().get(&id).cloned()
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn list(&self) -> Vec<Credential> {
        self.by_id.lock().values().cloned().collect()
    }

    fn create(&self, _: Caller, credential: Credential) -> Pending<'_, Result<Position, CredentialError>> {
        self.by_id.lock().insert(credential.id, credential);
        self.changes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(Position { epoch: [0; 16], revision: Revision(1) }) })
    }

    fn revoke(&self, _: Caller, id: CredentialId) -> Pending<'_, Result<Position, CredentialError>> {
        let found = self.by_id.lock().remove(&id);
        self.changes.fetch_add(1, Ordering::Relaxed);
        let position = Position { epoch: [0; 16], revision: Revision(2) };
        Box::pin(async move { found.map(|_| position).ok_or(CredentialError::NotFound) })
    }
}

struct Door {
    access: Arc<Access>,
    kept: Arc<Kept>,
    time: Arc<ManualTime>,
    dir: tempfile::TempDir,
}

fn door(principals: &str) -> Door {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("principals.toml");
    std::fs::write(&path, principals).unwrap();
    let (kept, time) = (Arc::<Kept>::default(), ManualTime::starting_at(START));
    let options = Options { principals: path, requests_per_second: 1000 };
    let access = Access::open(options, Some(kept.clone()), None, Clock::manual(time.clone())).unwrap();
    Door { access, kept, time, dir }
}

impl Door {
    fn rewrite(&self, principals: &str) {
        std::fs::write(self.dir.path().join("principals.toml"), principals).unwrap();
    }

    fn keep(&self, name: &str, minted: &Minted, expires_at: Option<UnixSeconds>) -> Credential {
        let credential = Credential {
            id: minted.id,
            name: name.into(),
            grant: Grant { roles: [Role::Check].into_iter().collect(), ..Grant::default() },
            hash: minted.hash,
            expires_at,
            created_at: START,
            created_by: "root".into(),
        };
        self.kept.by_id.lock().insert(minted.id, credential.clone());
        credential
    }

    fn bearer(&self, text: &str) -> Result<String, DenialReason> {
        self.brought(None, Some(&format!("Bearer {text}")))
    }

    fn brought(&self, names: Option<&CertificateNames>, header: Option<&str>) -> Result<String, DenialReason> {
        let brought = Brought {
            certificate: names,
            authorization: header.map(str::as_bytes),
            is_repeated: false,
            may_be_basic: false,
        };
        let identity = self.access.identify(brought);
        identity.map(|identity| identity.name().to_owned()).map_err(|denial| denial.reason)
    }
}

fn entry(name: &str, proof: &str, roles: &str) -> String {
    format!("[[principal]]\nname = '{name}'\n{proof}\nroles = [{roles}]\n")
}

fn named(dns: &[&str]) -> CertificateNames {
    CertificateNames { uris: vec![], dns_names: dns.iter().map(|name| (*name).to_owned()).collect() }
}

fn caller() -> Caller {
    Caller { principal: "root".into(), peer: "test".into(), grant: Grant::everything() }
}

#[test]
fn a_credential_of_the_file_and_one_of_the_journal_are_who_they_say() {
    let (filed, kept, nobodys) = (mint().unwrap(), mint().unwrap(), mint().unwrap());
    let door = door(&entry("gate", &format!("credential = '{}'", filed.hashed()), "'check'"));
    door.keep("jobs", &kept, None);
    assert_eq!(door.bearer(&filed.text), Ok("gate".into()));
    assert_eq!(door.bearer(&kept.text), Ok("jobs".into()));
    assert_eq!(door.bearer(&nobodys.text), Err(DenialReason::Unknown));
    let other_secret = format!("{}{}", &filed.text[..21], &nobodys.text[21..]);
    assert_eq!(door.bearer(&other_secret), Err(DenialReason::Unknown));
}

#[test]
fn whoever_brings_nothing_or_something_else_is_nobody() {
    let minted = mint().unwrap();
    let door = door(&entry("gate", &format!("credential = '{}'", minted.hashed()), "'check'"));
    assert_eq!(door.brought(None, None), Err(DenialReason::Missing));
    assert_eq!(door.brought(Some(&named(&["stranger"])), None), Err(DenialReason::Unknown));
    let text = minted.text.as_str();
    for header in ["", "Bearer", "Bearer ", text, "Basic dXNlcg==", "Bearer eyJhbGciOi.eyJ.sig", "Bearer rsc_"] {
        assert_eq!(door.brought(None, Some(header)), Err(DenialReason::Malformed), "{header}");
    }
    for header in [format!("bearer {text}"), format!("Bearer  {text} ")] {
        assert_eq!(door.brought(None, Some(&header)), Ok("gate".into()), "{header}");
    }
    let twice = Brought { is_repeated: true, ..Brought::default() };
    assert_eq!(door.access.identify(twice).unwrap_err().reason, DenialReason::Malformed);
}

#[test]
fn certificate_and_credential_must_stand_for_one_principal() {
    let (own, other) = (mint().unwrap(), mint().unwrap());
    let door = door(
        &[
            entry("gate", &format!("certificate = 'dns:gate'\ncredential = '{}'", own.hashed()), "'check'"),
            entry("jobs", &format!("certificate = 'dns:jobs'\ncredential = '{}'", other.hashed()), "'check'"),
        ]
        .concat(),
    );
    let header = |minted: &Minted| format!("Bearer {}", minted.text.as_str());
    assert_eq!(door.brought(Some(&named(&["gate"])), None), Ok("gate".into()));
    assert_eq!(door.brought(Some(&named(&["gate"])), Some(&header(&own))), Ok("gate".into()));
    assert_eq!(door.brought(Some(&named(&["gate"])), Some(&header(&other))), Err(DenialReason::Conflict));
    assert_eq!(door.brought(Some(&named(&["gate", "jobs"])), None), Err(DenialReason::Conflict));
    assert_eq!(door.brought(Some(&named(&["sidecar"])), Some(&header(&own))), Ok("gate".into()));
    let unknown = mint().unwrap();
    assert_eq!(
        door.brought(Some(&named(&["gate"])), Some(&header(&unknown))),
        Err(DenialReason::Unknown),
        "a certificate does not make up for it"
    );
}

#[test]
fn a_credential_is_over_at_its_expiry() {
    let (door, minted) = (door(""), mint().unwrap());
    door.keep("jobs", &minted, Some(UnixSeconds(START.0 / 1000 + 10)));
    let identity = door.access.by_credential(&minted.text.parse().unwrap()).unwrap();
    assert_eq!(door.access.remaining(&identity), Some(Duration::from_secs(10)));
    door.time.advance(Duration::from_millis(9_999));
    assert_eq!(door.bearer(&minted.text), Ok("jobs".into()));
    door.time.advance(Duration::from_millis(1));
    assert_eq!(door.bearer(&minted.text), Err(DenialReason::Expired));
    let need = Need::Role(Role::Check);
    assert_eq!(door.access.renew(&identity, need).unwrap_err().reason, DenialReason::Expired);
}

#[tokio::test]
async fn a_revoked_credential_is_refused_whoever_hears_of_it() {
    let (door, minted) = (door(""), mint().unwrap());
    let credential = door.keep("jobs", &minted, None);
    for _ in 0..3 {
        assert_eq!(door.bearer(&minted.text), Ok("jobs".into()));
    }
    assert_eq!(door.kept.looked_up.load(Ordering::Relaxed), 1, "it is looked up once");
    let identity = door.access.by_credential(&minted.text.parse().unwrap()).unwrap();
    assert!(door.access.renew(&identity, Need::Principal).is_ok());

    // Whoever asked for it does not wait for the answer, and nobody tells the door.
    drop(door.kept.revoke(caller(), minted.id));
    assert_eq!(door.bearer(&minted.text), Err(DenialReason::Unknown));
    assert_eq!(door.access.renew(&identity, Need::Principal).unwrap_err().reason, DenialReason::Unknown);

    door.kept.create(caller(), credential).await.unwrap();
    assert_eq!(door.bearer(&minted.text), Ok("jobs".into()));
}

#[test]
fn a_reload_takes_rights_away_and_a_bad_file_takes_nothing() {
    let door = door(&entry("gate", "certificate = 'dns:gate'", "'check', 'subscribe'"));
    let names = named(&["gate"]);
    let brought = Brought { certificate: Some(&names), ..Brought::default() };
    let identity = door.access.admit(Call::Subscribe, brought).unwrap().unwrap();
    let mut changes = door.access.changes();

    door.rewrite("[[principal]]\nname = 'gate'\nroles = ['check']\n");
    assert!(door.access.reload().unwrap_err().to_string().contains("needs a certificate"));
    assert!(!changes.has_changed().unwrap());
    assert_eq!(door.access.failed_reloads(), 1);
    assert!(door.access.renew(&identity, Call::Subscribe.need()).is_ok());

    door.rewrite(&entry("gate", "certificate = 'dns:gate'", "'check'"));
    assert_eq!(door.access.reload().unwrap(), 1);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let lost = door.access.renew(&identity, Call::Subscribe.need()).unwrap_err();
    assert_eq!(lost.reason, DenialReason::Role { need: Call::Subscribe.need() });
    assert!(door.access.renew(&identity, Need::Role(Role::Check)).is_ok());

    door.rewrite(&entry("renamed", "certificate = 'dns:gate'", "'subscribe'"));
    door.access.reload().unwrap();
    let lost = door.access.renew(&identity, Call::Subscribe.need()).unwrap_err();
    assert_eq!(lost.reason, DenialReason::Unknown, "another principal has the certificate now");
}

#[test]
fn a_denial_says_which_role_is_needed_and_who_one_is() {
    let door = door(&entry("gate", "certificate = 'dns:gate'", "'check', 'revoke'"));
    let names = named(&["gate"]);
    let brought = Brought { certificate: Some(&names), ..Brought::default() };
    assert!(door.access.admit(Call::CheckToken, brought).unwrap().is_some());
    let denial = door.access.admit(Call::Reinstate, brought).unwrap_err();
    assert_eq!(denial.to_string(), "this needs the role admin; \"gate\" has check, revoke");
    assert_eq!((denial.call, denial.reason.name()), (Some(Call::Reinstate), "role"));
    assert!(door.access.admit(Call::Health, Brought::default()).unwrap().is_none());
    let denial = door.access.admit(Call::GetStatus, Brought::default()).unwrap_err();
    assert!(denial.reason.is_unauthenticated());
}

#[test]
fn a_principal_that_asks_too_often_is_held_back_however_he_proves_who_he_is() {
    let minted = mint().unwrap();
    let proof = format!("certificate = 'dns:gate'\ncredential = '{}'\nwrites_per_minute = 5", minted.hashed());
    let door = door(&entry("gate", &proof, "'revoke'"));
    let names = named(&["gate"]);
    let asked = |_| door.brought(Some(&names), None).and(door.bearer(&minted.text));
    assert_eq!((0..600).filter(|n| asked(*n).is_ok()).count(), 500);
    assert_eq!(door.bearer(&minted.text), Err(DenialReason::TooManyRequests));
    door.access.reload().unwrap();
    assert_eq!(door.bearer(&minted.text), Err(DenialReason::TooManyRequests), "a reload forgets nothing");
    door.time.advance(Duration::from_secs(2));
    let identity = door.access.by_credential(&minted.text.parse().unwrap()).unwrap();
    assert!(door.access.count_writes(&identity, 5).is_ok());
    let denial = door.access.count_writes(&identity, 1).unwrap_err();
    assert_eq!(denial.reason, DenialReason::TooManyWrites { limit: 5 });
    assert_eq!(denial.retry_after, Some(Duration::from_secs(61)));
}

#[test]
fn no_door_is_opened_without_its_file() {
    let options = Options { principals: Path::new("/nowhere/principals.toml").to_owned(), requests_per_second: 1 };
    assert!(Access::open(options, None, None, Clock::system()).is_err());
}
