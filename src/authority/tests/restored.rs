//! Restoring: another epoch of the same history, that serves the same and takes back the same.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::durable::{Server, fixture, item, selector};
use crate::authority::backup::{RestoreBackupError, Restored, restore};
use crate::authority::{Options, recover};
use crate::clock::{Clock, ManualTime};
use crate::journal::HeldCredentials;
use crate::journal::{Identity, RestoreError};
use crate::revocation::{Ancestor, Epoch, Policy, RevocationId};

fn identity(dir: &Path) -> Identity {
    let clock = Clock::manual(ManualTime::starting_at(super::durable::START));
    recover(Options::new(dir.to_owned(), clock)).unwrap().identity().clone()
}

/// A closed data directory with one revocation of `alice`, and that one's id.
fn filled() -> (tempfile::TempDir, RevocationId) {
    let (dir, time) = fixture();
    let server = Server::start(dir.path(), &time, Policy::default());
    let id = server.revoke(vec![item("sub", "alice"), item("jti", "a")]).unwrap().outcomes[0].id;
    (dir, id.unwrap())
}

fn restored(backup: &Path) -> (tempfile::TempDir, Restored) {
    let dir = tempfile::tempdir().unwrap();
    let restored = restore(backup, dir.path(), HeldCredentials::Keep).unwrap();
    (dir, restored)
}

#[test]
fn a_restored_journal_serves_the_same_as_an_epoch_of_its_own() {
    let (backup, id) = filled();
    let (digest, revision) = {
        let server = Server::start(backup.path(), &fixture().1, Policy::default());
        (server.set.digest(), server.set.revision())
    };
    let (dir, restored) = restored(backup.path());
    assert_eq!((restored.parent.last, restored.epoch.generation), (revision, 2));
    let server = Server::start(dir.path(), &fixture().1, Policy::default());
    assert!(server.revokes("sub", "alice") && server.revokes("jti", "a"));
    assert_eq!((server.set.digest(), server.set.revision()), (digest, revision.next()));
    let late = server.revoke(vec![item("jti", "late")]).unwrap();
    let position = late.position.unwrap();
    assert_eq!((position.epoch, position.revision), (restored.epoch.id, revision.next().next()));
    assert_eq!(late.outcomes[0].id.unwrap().epoch_prefix, restored.epoch.prefix());
    // What the epoch before accepted keeps its id, and is taken back by it.
    let undone = server.reinstate(vec![(selector("sub", "alice"), Some(id))]).unwrap().undone;
    assert_eq!(undone, [vec![id]]);
    assert!(!server.revokes("sub", "alice"));
    drop(server);
    let server = Server::start(dir.path(), &fixture().1, Policy::default());
    assert!(!server.revokes("sub", "alice") && server.revokes("jti", "late"), "both epochs replay");
}

#[test]
fn epoch_keys_and_parent_are_those_of_a_descendant() {
    let (backup, _) = filled();
    let old = identity(backup.path());
    let (dir, restored) = restored(backup.path());
    let new = identity(dir.path());
    assert_eq!((&new.set_key, &new.signing_seed), (&old.set_key, &old.signing_seed));
    assert_eq!(new.epoch, restored.epoch);
    assert_eq!(new.epoch.generation, old.epoch.generation + 1);
    assert_eq!(new.ancestors, [Ancestor { epoch: old.epoch, last: restored.parent.last }]);
    assert_eq!(identity(backup.path()).epoch, old.epoch, "the backup is as it was");
}

#[test]
fn a_restore_can_be_restored() {
    let (first, id) = filled();
    let (second, _) = restored(first.path());
    let middle = {
        let server = Server::start(second.path(), &fixture().1, Policy::default());
        server.revoke(vec![item("sid", "middle")]).unwrap().outcomes[0].id.unwrap()
    };
    let (third, restored) = restored(second.path());
    assert_eq!(restored.epoch.generation, 3);
    let server = Server::start(third.path(), &fixture().1, Policy::default());
    let undone =
        server.reinstate(vec![(selector("sub", "alice"), Some(id)), (selector("sid", "middle"), Some(middle))]);
    assert_eq!(undone.unwrap().undone, [vec![id], vec![middle]]);
    assert!(!server.revokes("sub", "alice") && !server.revokes("sid", "middle") && server.revokes("jti", "a"));
}

#[test]
fn a_restored_journal_starts_from_the_snapshot_of_the_epoch_before() {
    let (backup, time) = fixture();
    let (digest, cut) = {
        let server = Server::start(backup.path(), &time, Policy::default());
        for n in 0.. {
            assert!(n < 200, "no snapshot was cut");
            if !server.published.images.lock().is_empty() {
                break;
            }
            server.revoke((0..500).map(|i| item("jti", &format!("{n}-{i}"))).collect()).unwrap();
        }
        server.revoke(vec![item("sub", "later")]).unwrap();
        let cut = server.published.images.lock()[0].header.state.revision;
        (server.set.digest(), cut)
    };
    let (dir, restored) = restored(backup.path());
    assert_eq!(restored.snapshot.map(|revision| revision >= cut), Some(true));
    // Nothing is left to replay from but the snapshot and what lies behind it.
    let clock = Clock::manual(ManualTime::starting_at(super::durable::START));
    let recovered = recover(Options::new(dir.path().to_owned(), clock)).unwrap();
    assert_eq!(Some(recovered.image.header.state.revision), restored.snapshot);
    assert_eq!(recovered.state().digest(), digest);
}

#[test]
fn files_of_a_restore_are_for_their_owner_only() {
    let (backup, _) = filled();
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("new/data");
    restore(backup.path(), &dir, HeldCredentials::Keep).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join("snapshots"))), (0o700, 0o700));
    assert_eq!(mode(&dir.join("journal.sqlite")), 0o600);
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_directory_that_holds_something_and_one_that_is_served_are_refused() {
    let (backup, _) = filled();
    let full = tempfile::tempdir().unwrap();
    fs::write(full.path().join("x"), "x").unwrap();
    let refused = restore(backup.path(), full.path(), HeldCredentials::Keep).unwrap_err();
    assert!(matches!(refused, RestoreBackupError::Journal(RestoreError::NotEmpty { .. })), "{refused}");
    let _served = Server::start(backup.path(), &fixture().1, Policy::default());
    let refused = restore(backup.path(), tempfile::tempdir().unwrap().path(), HeldCredentials::Keep).unwrap_err();
    assert!(format!("{refused:?}").contains("InUse"), "{refused:?}");
    let empty = tempfile::tempdir().unwrap();
    let refused = restore(empty.path(), tempfile::tempdir().unwrap().path(), HeldCredentials::Keep).unwrap_err();
    assert!(matches!(refused, RestoreBackupError::Incomplete { .. }), "{refused}");
}

#[test]
fn a_damaged_backup_is_refused_where_it_is_damaged_and_leaves_nothing_behind() {
    for (sql, at) in [
        ("UPDATE records SET bytes = zeroblob(99) WHERE revision = 2", "revision 2"),
        ("DELETE FROM records WHERE revision = 1", "revision 1"),
        ("UPDATE meta SET value = zeroblob(85) WHERE key = 'identity'", "revision 0"),
        ("INSERT INTO meta VALUES ('lineage', zeroblob(32))", "revision 0"),
    ] {
        let (backup, _) = filled();
        rusqlite::Connection::open(backup.path().join("journal.sqlite")).unwrap().execute_batch(sql).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let refused = restore(backup.path(), dir.path(), HeldCredentials::Keep).unwrap_err();
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert!(cause.contains("corrupt") && cause.contains(at), "{sql}: {cause}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{sql}");
    }
}

#[test]
fn a_changed_ancestor_is_found() {
    let (backup, _) = filled();
    let (dir, restored) = restored(backup.path());
    let prefix = restored.epoch.id.map(|byte| format!("{byte:02x}")).concat();
    let connection = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    let bytes: Vec<u8> =
        connection.query_row("SELECT value FROM meta WHERE key = 'identity'", [], |row| row.get(0)).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let other = Epoch { generation: 2, id: [7; 16] }.id.map(|byte| format!("{byte:02x}")).concat();
    let sql = format!("UPDATE meta SET value = x'{}' WHERE key = 'identity'", hex.replacen(&prefix, &other, 1));
    connection.execute_batch(&sql).unwrap();
    drop(connection);
    let started = Server::try_start(dir.path(), &fixture().1, Policy::default());
    assert!(started.err().unwrap().to_string().contains("ancestors"));
}

#[test]
fn no_server_starts_where_a_restore_did_not_end() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal.sqlite.restoring"), "half").unwrap();
    let started = Server::try_start(dir.path(), &fixture().1, Policy::default());
    assert!(started.err().unwrap().to_string().contains("a restore into this directory did not end"));
}

#[test]
fn a_loss_is_accepted_once_by_a_record_that_configuration_does_not_undo() {
    use crate::revocation::ports::AcceptLossError;
    let (backup, _) = filled();
    let (dir, _) = restored(backup.path());
    let time = fixture().1;
    let at = {
        let server = Server::start(dir.path(), &time, Policy::default());
        assert_eq!(server.accept_loss(2), Err(AcceptLossError::NotPast { generation: 2, current: 2 }));
        assert_eq!(server.accept_loss(0), Err(AcceptLossError::NotPast { generation: 0, current: 2 }));
        let at = server.accept_loss(1).unwrap();
        assert_eq!(server.accept_loss(1), Ok(at), "a repeat changes nothing");
        assert_eq!(server.set.policy().losses_accepted, 1);
        at
    };
    let policy = Policy { max_entries: 77, ..Policy::default() };
    let server = Server::start(dir.path(), &time, policy);
    assert_eq!(server.set.policy(), Policy { losses_accepted: 1, ..policy });
    drop(server);
    let journal = crate::journal::EmbeddedJournal::open(
        dir.path(),
        &crate::journal::Options { clock: Clock::manual(time), verify_after: Default::default() },
    );
    let reader = crate::journal::Journal::reader(&journal.unwrap().journal).unwrap();
    match reader.record(at.revision).unwrap().unwrap().body {
        crate::journal::Body::Policy { policy, actor, peer } => {
            assert_eq!((policy.losses_accepted, actor.as_str(), peer.as_str()), (1, "tester", "127.0.0.1"));
        }
        other => panic!("{other:?}"),
    }
}
