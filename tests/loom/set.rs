//! The set: checks beside the writer and beside a rebuild of the filter.

use std::sync::Arc;

use loom::thread;
use rescind::revocation::{
    Claims, Cutoff, Delta, Fingerprint, Minute, PackedEntry, Policy, Rebuild, RevocationSet, Selector, SetKey,
    SetWriter, TestedClaim, UnixMillis, UnixSeconds,
};

const NOW: UnixSeconds = UnixSeconds(1_000_000);

fn key() -> SetKey {
    SetKey::new([7; 16])
}

fn selector(subject: &str) -> Selector {
    Selector::new([("sub", subject)], TestedClaim::Iat).expect("a selector")
}

fn claims(subject: &str) -> Claims {
    let mut claims = Claims::new();
    claims.push("sub", subject, false);
    claims
}

/// Revokes and takes back in one revision; whether the filter is to be rebuilt.
fn commit(writer: &mut SetWriter, revoke: &[&str], undo: &[&str]) -> Option<Rebuild> {
    let fingerprints = |subjects: &[&str]| {
        let mut all: Vec<Fingerprint> = subjects.iter().map(|subject| key().fingerprint(&selector(subject))).collect();
        all.sort_unstable();
        all
    };
    let mut delta = Delta::empty(writer.revision().next(), UnixMillis(0), writer.floor());
    if writer.shapes().is_empty() {
        delta.shapes_added = vec![selector("a").shape()];
    }
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    delta.upserts = fingerprints(revoke).into_iter().map(|fingerprint| (fingerprint, entry)).collect();
    delta.removals = fingerprints(undo);
    delta.digest_after = writer.stage(&delta).expect("it fits");
    writer.apply(&delta).expect("it fits").rebuild
}

fn set() -> (SetWriter, Arc<RevocationSet>) {
    RevocationSet::create(key(), Policy::default(), Minute::from_bits(1))
}

/// Checks a subject that is revoked from a revision on.
fn check(set: &RevocationSet, subject: &str, since: u64) {
    let finding = set.check(&claims(subject), NOW);
    assert!(finding.hit.is_some() || finding.revision.0 < since, "missed at {}", finding.revision);
}

#[test]
fn a_check_sees_all_of_the_revision_that_it_reports() {
    loom::model(|| {
        let (mut writer, set) = set();
        commit(&mut writer, &["a"], &[]);
        let reader = thread::spawn(move || check(&set, "b", 2));
        commit(&mut writer, &["b"], &[]);
        reader.join().expect("the check holds");
    });
}

#[test]
fn a_check_never_misses_both_when_one_is_revoked_and_another_taken_back() {
    loom::model(|| {
        let (mut writer, set) = set();
        commit(&mut writer, &["a"], &[]);
        let reader = thread::spawn(move || {
            let mut both = claims("a");
            both.push("sub", "b", true);
            assert!(set.check(&both, NOW).hit.is_some(), "both were missed");
        });
        commit(&mut writer, &["b"], &["a"]);
        reader.join().expect("the check holds");
    });
}

#[test]
fn a_rebuild_loses_nothing_that_is_revoked_beside_it() {
    loom::model(|| {
        let (mut writer, set) = set();
        commit(&mut writer, &["a", "x", "y", "z"], &[]);
        let rebuild = commit(&mut writer, &[], &["x", "y", "z"]).expect("the filter holds mostly garbage");
        let job = thread::spawn(move || rebuild.run());
        commit(&mut writer, &["b"], &[]);
        // What is revoked after the job has ended, or while it goes on, is found as well.
        check(&set, "b", 3);
        job.join().expect("the rebuild ends");
        check(&set, "b", 3);
        commit(&mut writer, &["c"], &[]);
        for (subject, since) in [("a", 1), ("b", 3), ("c", 4)] {
            check(&set, subject, since);
        }
    });
}

#[test]
fn a_check_beside_a_rebuild_and_a_revision_misses_nothing() {
    loom::model(|| {
        let (mut writer, set) = set();
        commit(&mut writer, &["a", "x", "y", "z"], &[]);
        let rebuild = commit(&mut writer, &[], &["x", "y", "z"]).expect("the filter holds mostly garbage");
        let job = thread::spawn(move || rebuild.run());
        let reader = thread::spawn(move || {
            check(&set, "b", 3);
            check(&set, "a", 1);
        });
        commit(&mut writer, &["b"], &[]);
        job.join().expect("the rebuild ends");
        reader.join().expect("the check holds");
    });
}
