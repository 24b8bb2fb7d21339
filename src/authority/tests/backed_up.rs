//! Backups of a running authority.

use std::fs;
use std::path::Path;

use super::durable::{START, Server, fixture, item};
use crate::authority::backup::{Backups, Listed, MANIFEST, Manifest, ManifestError, RestoreBackupError, restore};
use crate::authority::{Options, RecoverError, recover};
use crate::clock::{Clock, ManualTime};
use crate::journal::HeldCredentials;
use crate::revocation::ports::{BACKUP_CHUNK_BYTES, BackupPart, OperateError};
use crate::revocation::{Epoch, Policy, Position};

const EPOCH: Epoch = Epoch { generation: 1, id: [9; 16] };

/// Writes a backup of what runs in `data` to `dir`, as a caller far away would.
fn back_up(data: &Path, dir: &Path) -> Manifest {
    let mut manifest = Manifest { position: Position { epoch: [0; 16], revision: Default::default() }, files: vec![] };
    let (mut bytes, mut ended) = (Vec::new(), false);
    for part in Backups::new(data.to_owned(), EPOCH).begin().unwrap() {
        match part.unwrap() {
            BackupPart::Position(position) => manifest.position = position,
            BackupPart::File { name, length } => {
                bytes.clear();
                manifest.files.push(Listed { name, length, sha256: [0; 32] });
            }
            BackupPart::Chunk(chunk) => {
                assert!(chunk.len() <= BACKUP_CHUNK_BYTES);
                bytes.extend_from_slice(&chunk);
            }
            BackupPart::FileEnd { sha256 } => {
                let listed = manifest.files.last_mut().unwrap();
                listed.sha256 = sha256;
                let path = dir.join(&listed.name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &bytes).unwrap();
            }
            BackupPart::End { files } => {
                assert_eq!(files as usize, manifest.files.len());
                ended = true;
            }
        }
    }
    assert!(ended);
    fs::write(dir.join(MANIFEST), manifest.render()).unwrap();
    manifest
}

#[test]
fn a_backup_of_a_running_server_restores_to_what_was_in_force_then() {
    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    for n in 0.. {
        assert!(n < 200, "no snapshot was cut");
        if !server.published.images.lock().is_empty() {
            break;
        }
        server.revoke((0..500).map(|i| item("jti", &format!("{n}-{i}"))).collect()).unwrap();
    }
    server.revoke(vec![item("sub", "before")]).unwrap();
    let (digest, revision) = (server.set.digest(), server.set.revision());
    let backup = tempfile::tempdir().unwrap();
    let manifest = back_up(data.path(), backup.path());
    server.revoke(vec![item("sub", "after")]).unwrap();
    assert_eq!((manifest.position.revision, manifest.files.len()), (revision, 2));
    assert!(!data.path().join("backup.partial").exists(), "nothing is left behind");
    let dir = tempfile::tempdir().unwrap();
    let restored = restore(backup.path(), dir.path(), HeldCredentials::Keep).unwrap();
    assert!(restored.snapshot.is_some());
    let again = Server::start(dir.path(), &time, Policy::default());
    assert_eq!(again.set.digest(), digest);
    assert!(again.revokes("sub", "before") && again.revokes("jti", "0-7") && !again.revokes("sub", "after"));
}

#[test]
fn backups_beside_a_busy_writer_are_each_of_one_revision() {
    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for n in 0..60 {
                server.revoke((0..50).map(|i| item("jti", &format!("{n}-{i}"))).collect()).unwrap();
            }
        });
        while !writing.is_finished() {
            let (backup, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let manifest = back_up(data.path(), backup.path());
            let restored = restore(backup.path(), dir.path(), HeldCredentials::Keep).unwrap();
            assert_eq!(restored.parent.last, manifest.position.revision);
            Server::try_start(dir.path(), &time, Policy::default()).unwrap();
        }
    });
}

#[test]
fn one_backup_is_made_at_a_time_and_a_dropped_one_gives_way() {
    let (data, time) = fixture();
    let _server = Server::start(data.path(), &time, Policy::default());
    let backups = Backups::new(data.path().to_owned(), EPOCH);
    let mut first = backups.begin().unwrap();
    assert!(first.next().unwrap().is_ok());
    assert_eq!(backups.begin().err(), Some(OperateError::Busy));
    drop(first);
    assert_eq!(backups.begin().unwrap().count(), 5);
}

#[test]
fn a_damaged_backup_is_refused_and_named_and_none_is_served_as_it_is() {
    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    server.revoke(vec![item("jti", "a")]).unwrap();
    let backup = tempfile::tempdir().unwrap();
    back_up(data.path(), backup.path());
    let target = tempfile::tempdir().unwrap();
    let path = backup.path().join("journal.sqlite");
    let sound = fs::read(&path).unwrap();
    let mut flipped = sound.clone();
    flipped[sound.len() / 2] ^= 1;
    for damaged in [&flipped[..], &sound[..sound.len() - 1]] {
        fs::write(&path, damaged).unwrap();
        let refused = restore(backup.path(), target.path(), HeldCredentials::Keep).unwrap_err();
        assert!(matches!(&refused, RestoreBackupError::Manifest(ManifestError::Damaged { .. })), "{refused}");
        assert!(refused.to_string().contains("journal.sqlite"), "{refused}");
    }
    fs::write(&path, &sound).unwrap();
    let options = Options::new(backup.path().to_owned(), Clock::manual(ManualTime::starting_at(START)));
    assert!(matches!(recover(options).err(), Some(RecoverError::Backup { .. })), "two histories under one name");
    restore(backup.path(), target.path(), HeldCredentials::Keep).unwrap();
}

/// Credentials of which one is in a snapshot and its record pruned or not, one created after, one revoked.
#[test]
fn a_restore_keeps_the_credentials_of_its_backup_or_revokes_them_before_it_serves() {
    use crate::journal::contract::sample::credential;
    use crate::journal::{Body, CredentialAction, EmbeddedJournal, Journal as _, Options as JournalOptions};
    use crate::revocation::Revision;

    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    let create = |id| CredentialAction::Create(Box::new(credential(Revision(1), id)));
    server.change_credentials(create(1)).unwrap();
    for n in 0.. {
        assert!(n < 200, "no snapshot was cut");
        if !server.published.images.lock().is_empty() {
            break;
        }
        server.revoke((0..500).map(|i| item("jti", &format!("{n}-{i}"))).collect()).unwrap();
    }
    server.change_credentials(create(2)).unwrap();
    server.change_credentials(create(3)).unwrap();
    server.change_credentials(CredentialAction::Revoke(vec![credential(Revision(1), 3).id])).unwrap();
    let backup = tempfile::tempdir().unwrap();
    back_up(data.path(), backup.path());
    let names = || fs::read_dir(backup.path()).unwrap().count();
    let before = names();
    let sound = crate::authority::audit::verify(backup.path(), None).unwrap();
    assert_eq!((sound.journal.head, sound.snapshots.len()), (server.audit_head(), 1));
    assert_eq!(names(), before, "a backup is verified without a file beside it");
    let held = server.credentials.list();
    assert_eq!(held.len(), 2);
    drop(server);

    let kept = tempfile::tempdir().unwrap();
    assert_eq!(restore(backup.path(), kept.path(), HeldCredentials::Keep).unwrap().credentials, 2);
    assert_eq!(Server::start(kept.path(), &time, Policy::default()).credentials.list(), held);

    let dropped = tempfile::tempdir().unwrap();
    let restored = restore(backup.path(), dropped.path(), HeldCredentials::Drop).unwrap();
    assert_eq!(restored.credentials, 2);
    // A backup of what was restored and never started is restored without them too.
    let again = tempfile::tempdir().unwrap();
    fs::write(dropped.path().join("lock"), b"").unwrap();
    restore(dropped.path(), again.path(), HeldCredentials::Keep).unwrap();
    for dir in [dropped.path(), again.path()] {
        let server = Server::start(dir, &time, Policy::default());
        assert_eq!(server.credentials.list(), []);
        server.change_credentials(create(4)).unwrap();
        drop(server);
        assert_eq!(Server::start(dir, &time, Policy::default()).credentials.list().len(), 1, "only once");
    }
    let options = JournalOptions { clock: Clock::manual(time), verify_after: Revision(0) };
    let journal = EmbeddedJournal::open(dropped.path(), &options).unwrap().journal;
    let first = journal.reader().unwrap().record(restored.parent.last.next()).unwrap().unwrap();
    let Body::Credentials(change) = first.body else { panic!("{first:?}") };
    assert_eq!(change.principal, "restore");
}

#[test]
fn a_directory_that_was_open_to_others_is_closed_before_keys_come_into_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let (data, time) = fixture();
    drop(Server::start(data.path(), &time, Policy::default()));
    let target = tempfile::tempdir().unwrap();
    fs::set_permissions(target.path(), fs::Permissions::from_mode(0o777)).unwrap();
    restore(data.path(), target.path(), HeldCredentials::Keep).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(target.path()), 0o700);
    assert_eq!(mode(&target.path().join("snapshots")), 0o700);
    assert_eq!(mode(&target.path().join("journal.sqlite")), 0o600);
}
