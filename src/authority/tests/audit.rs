//! Whatever is done to a journal behind its back is found, by itself or against a head that was noted elsewhere.

use std::path::Path;

use rusqlite::Connection;

use super::durable::{Server, fixture, item};
use crate::authority::audit::{Sound, VerifyError, verify};
use crate::authority::export::Exports;
use crate::journal::{AuditError, Body, Checksum, JournalFile, ReadError, Record, link};
use crate::revocation::ports::{AuditHead, ExportPart, OperateError};
use crate::revocation::{Policy, Revision};

/// A data directory with some records and, if asked for, a snapshot or two; nobody runs there.
fn written(with_snapshot: bool) -> tempfile::TempDir {
    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    for n in 0..6 {
        server.revoke(vec![item("sub", &format!("user-{n}"))]).unwrap();
    }
    for n in 0..if with_snapshot { 200 } else { 0 } {
        server.revoke((0..500).map(|i| item("jti", &format!("{n}-{i}"))).collect()).unwrap();
        if !server.published.images.lock().is_empty() {
            break;
        }
    }
    server.revoke(vec![item("sub", "last")]).unwrap();
    drop(server);
    data
}

fn sound(dir: &Path) -> Sound {
    verify(dir, None).unwrap()
}

fn edit(dir: &Path, sql: &str) {
    Connection::open(dir.join("journal.sqlite")).unwrap().execute_batch(sql).unwrap();
}

/// The revision named by a fault of the journal.
fn corrupt_at(result: Result<Sound, VerifyError>) -> u64 {
    match result.unwrap_err() {
        VerifyError::Journal(AuditError::Read(ReadError::Corrupt { revision, .. })) => revision.0,
        other => panic!("{other:?}"),
    }
}

/// Writes records anew from one on, with checksums that fit: what somebody does who knows the format.
fn rewrite(dir: &Path, from: u64, change: impl Fn(Record) -> Record) {
    let connection = Connection::open(dir.join("journal.sqlite")).unwrap();
    let sql = "SELECT checksum FROM records WHERE revision = ?1";
    let mut before: Checksum = connection.query_row(sql, [from - 1], |row| row.get(0)).unwrap();
    let mut statement = connection.prepare("SELECT revision, bytes FROM records WHERE revision >= ?1").unwrap();
    let rows: Vec<(u64, Vec<u8>)> =
        statement.query_map([from], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for (revision, bytes) in rows {
        let bytes = change(Record::decode(&bytes).unwrap()).encode().unwrap();
        before = link(&before, Revision(revision), &bytes);
        let sql = "UPDATE records SET checksum = ?1, bytes = ?2 WHERE revision = ?3";
        connection.execute(sql, rusqlite::params![before, bytes, revision]).unwrap();
    }
}

/// A change of who asked, which nothing inside the journal contradicts once the checksums fit.
fn in_another_name(mut record: Record) -> Record {
    if let Body::Requests(requests) = &mut record.body {
        requests.iter_mut().for_each(|request| request.principal = "somebody else".into());
    }
    record
}

#[test]
fn a_sound_directory_is_left_as_it_is_and_tells_its_head() {
    let data = written(true);
    let files = || {
        let mut all: Vec<_> = std::fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| !path.to_string_lossy().ends_with("-shm") && !path.to_string_lossy().ends_with("-wal"));
        all.sort();
        all.into_iter().filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
    };
    let before = files();
    let first = sound(data.path());
    assert!(!first.snapshots.is_empty());
    assert_eq!((first.journal.oldest, first.journal.format), (Revision(1), 3));
    assert_eq!(files(), before);
    assert_eq!(verify(data.path(), Some(first.journal.head)).unwrap(), first);
}

#[test]
fn a_running_server_is_verified_beside_its_writes() {
    let (data, time) = fixture();
    let server = Server::start(data.path(), &time, Policy::default());
    server.revoke(vec![item("sub", "a")]).unwrap();
    let head = sound(data.path()).journal.head;
    assert_eq!(head, server.audit_head());
    server.revoke(vec![item("sub", "b")]).unwrap();
    let later = verify(data.path(), Some(head)).unwrap().journal.head;
    assert_eq!((later, later.revision), (server.audit_head(), head.revision.next()));
}

#[test]
fn damage_is_found_where_it_is() {
    for (revision, sql) in [
        (
            4,
            "UPDATE records SET bytes = CAST(substr(bytes, 1, 60) || x'00' || substr(bytes, 62) AS BLOB) WHERE revision = 4",
        ),
        (4, "DELETE FROM records WHERE revision = 4"),
        (
            3,
            "UPDATE records SET revision = -1 WHERE revision = 3; UPDATE records SET revision = 3 WHERE revision = 4;
             UPDATE records SET revision = 4 WHERE revision = -1",
        ),
        (5, "UPDATE records SET checksum = zeroblob(32) WHERE revision = 5"),
    ] {
        let data = written(false);
        edit(data.path(), sql);
        assert_eq!(corrupt_at(verify(data.path(), None)), revision, "{sql}");
    }
}

#[test]
fn a_delta_that_was_exchanged_is_found_although_the_checksums_fit() {
    let data = written(false);
    rewrite(data.path(), 4, |record| match record.revision {
        Revision(4) => {
            let mut delta = crate::revocation::Delta::decode(&record.delta).unwrap();
            delta.upserts.clear();
            Record { delta: delta.encode(), ..record }
        }
        _ => record,
    });
    assert_eq!(corrupt_at(verify(data.path(), None)), 4);
}

#[test]
fn another_name_in_a_record_is_found_against_a_head_noted_before() {
    let data = written(false);
    let head = sound(data.path()).journal.head;
    rewrite(data.path(), 4, in_another_name);
    assert_ne!(sound(data.path()).journal.head, head, "by itself it passes");
    let refused = verify(data.path(), Some(head)).unwrap_err();
    assert!(
        matches!(refused, VerifyError::Journal(AuditError::Changed { expected }) if expected == head),
        "{refused:?}"
    );
}

#[test]
fn records_cut_off_are_found_against_a_head_noted_before_or_by_a_snapshot() {
    let data = written(false);
    let head = sound(data.path()).journal.head;
    edit(data.path(), &format!("DELETE FROM records WHERE revision > {}", head.revision.0 - 2));
    let cut = sound(data.path()).journal.head;
    let refused = verify(data.path(), Some(head)).unwrap_err();
    assert!(
        matches!(refused, VerifyError::Journal(AuditError::CutOff { head, .. }) if head == cut.revision),
        "{refused:?}"
    );
    let data = written(true);
    let oldest = *sound(data.path()).snapshots.last().expect("a snapshot");
    edit(data.path(), &format!("DELETE FROM records WHERE revision >= {}", oldest.0));
    let refused = verify(data.path(), None).unwrap_err();
    assert!(matches!(refused, VerifyError::Foreign { what, .. } if what.contains("ahead")), "{refused:?}");
}

#[test]
fn a_damaged_snapshot_is_named() {
    let data = written(true);
    let folder = data.path().join("snapshots");
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let refused = verify(data.path(), None).unwrap_err();
    assert!(matches!(refused, VerifyError::Snapshot(_)) && refused.to_string().contains(".snapshot"), "{refused:?}");
}

#[test]
fn a_head_before_the_oldest_record_cannot_be_compared() {
    let data = written(false);
    let before = AuditHead { revision: Revision(0), checksum: [0; 32] };
    let refused = verify(data.path(), Some(before)).unwrap_err();
    assert!(matches!(refused, VerifyError::Journal(AuditError::Changed { .. })), "of another beginning: {refused:?}");
}

#[test]
fn an_export_holds_every_record_and_two_run_at_once() {
    let data = written(true);
    let file = JournalFile::open(data.path(), false).unwrap();
    let identity = file.identity().clone();
    let exports = Exports::new(file.into_reader(), identity.clone());
    let head = sound(data.path()).journal.head;
    let (mut next, mut last) = (Revision(1), None);
    let mut parts = exports.begin(Revision(0)).unwrap();
    let Some(Ok(ExportPart::Begin { head: told, generation: 1, .. })) = parts.next() else { panic!("no beginning") };
    assert_eq!((told.epoch, told.revision), (identity.epoch.id, head.revision));
    for part in parts {
        let ExportPart::Records(records) = part.unwrap() else { panic!("records") };
        assert!(records.len() == 1 || records.iter().map(|one| one.bytes.len()).sum::<usize>() <= 256 << 10);
        for one in records {
            assert_eq!(Record::decode(&one.bytes).unwrap().revision, next);
            (next, last) = (next.next(), Some(one.checksum));
        }
    }
    assert_eq!((next, last), (head.revision.next(), Some(head.checksum)));
    let (first, second) = (exports.begin(Revision(3)).unwrap(), exports.begin(Revision(1)).unwrap());
    assert_eq!(exports.begin(Revision(1)).err(), Some(OperateError::Busy));
    drop((first, second));
    let past: Vec<_> = exports.begin(head.revision.next()).unwrap().collect();
    assert_eq!(past.len(), 1, "the beginning alone");
}

#[test]
fn an_export_from_beyond_the_end_is_refused_as_whoever_asks_saw_another_history() {
    let data = written(false);
    let file = JournalFile::open(data.path(), false).unwrap();
    let (identity, head) = (file.identity().clone(), sound(data.path()).journal.head.revision);
    let exports = Exports::new(file.into_reader(), identity);
    for from in [head.next().next(), Revision(u64::MAX)] {
        let parts: Vec<_> = exports.begin(from).unwrap().collect();
        assert_eq!(parts, [Err(OperateError::PastEnd { head })]);
    }
}
