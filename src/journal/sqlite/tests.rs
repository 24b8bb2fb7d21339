//! The embedded store: contract, recovery, damage, faults.

mod mounted;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::clock::ManualTime;
use crate::journal::contract::{self, append_all, read_all, sample};
use crate::journal::{Body, PruneLimits};
use crate::revocation::UnixMillis;

fn options() -> Options {
    Options { clock: Clock::manual(ManualTime::starting_at(UnixMillis(1_000))), verify_after: Revision(0) }
}

fn open(dir: &Path) -> Result<EmbeddedJournal, OpenError> {
    EmbeddedJournal::open(dir, &options()).map(|opened| opened.journal)
}

/// A journal of `records` records, closed.
fn filled(records: u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path()).unwrap();
    let all: Vec<_> = (1..=records).map(|revision| sample::revoking(Revision(revision), 3)).collect();
    append_all(&mut journal, &all);
    dir
}

/// Changes a closed journal behind its back.
fn tamper(dir: &Path, sql: &str) {
    let connection = Connection::open(dir.join("journal.sqlite")).unwrap();
    connection.execute_batch(sql).unwrap();
}

#[test]
fn sqlite_keeps_the_contract() {
    contract::check_all(|| {
        let dir = TempDir::new().unwrap();
        Box::new(move || Box::new(open(dir.path()).unwrap()) as Box<dyn Journal>)
    });
}

#[test]
fn what_was_acknowledged_survives_a_crash() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path()).unwrap();
    let after_crash = TempDir::new().unwrap();
    for revision in 1..=30 {
        append_all(&mut journal, &[sample::revoking(Revision(revision), 1 + revision as u32 * 7 % 60)]);
        // The files as a crash at this moment leaves them: the database as of creation, everything else in the log.
        for name in ["journal.sqlite", "journal.sqlite-wal"] {
            fs::copy(dir.path().join(name), after_crash.path().join(name)).unwrap();
        }
        let mut recovered = open(after_crash.path()).unwrap();
        assert_eq!(recovered.head(), Revision(revision));
        assert_eq!(read_all(&*recovered.reader().unwrap()), read_all(&*journal.reader().unwrap()));
        append_all(&mut recovered, &[sample::ticking(Revision(revision + 1))]);
    }
}

#[test]
fn a_torn_commit_is_not_there_after_a_crash() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path()).unwrap();
    append_all(&mut journal, &[sample::revoking(Revision(1), 1)]);
    let log = dir.path().join("journal.sqlite-wal");
    let whole = fs::read(&log).unwrap().len();
    append_all(&mut journal, &[sample::revoking(Revision(2), 100)]);
    let bytes = fs::read(&log).unwrap();
    for length in [whole, whole + 1, (whole + bytes.len()) / 2, bytes.len() - 1] {
        let after_crash = TempDir::new().unwrap();
        fs::copy(dir.path().join("journal.sqlite"), after_crash.path().join("journal.sqlite")).unwrap();
        fs::write(after_crash.path().join("journal.sqlite-wal"), &bytes[..length]).unwrap();
        assert_eq!(open(after_crash.path()).unwrap().head(), Revision(1), "{length}");
    }
}

#[test]
fn a_half_made_journal_is_made_anew() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("journal.sqlite.new"), b"half").unwrap();
    assert!(EmbeddedJournal::open(dir.path(), &options()).unwrap().created);
    assert!(!EmbeddedJournal::open(dir.path(), &options()).unwrap().created);
}

#[test]
fn files_are_for_their_owner_only() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/b");
    let mut journal = open(&dir).unwrap();
    append_all(&mut journal, &[sample::ticking(Revision(1))]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 4, "{names:?}");
    names.iter().for_each(|path| assert_eq!(mode(path), 0o600, "{}", path.display()));
}

#[test]
fn a_directory_in_use_is_refused_and_named() {
    let dir = TempDir::new().unwrap();
    let first = open(dir.path()).unwrap();
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::InUse { path } if path == dir.path()));
    assert!(
        refused.to_string().contains("another server") && refused.to_string().contains(dir.path().to_str().unwrap())
    );
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_naming_both() {
    let dir = filled(1);
    tamper(dir.path(), "PRAGMA user_version = 4");
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::NewerFormat { found: 4, supported: 3, .. }), "{refused:?}");
    assert!(refused.to_string().contains("format 4") && refused.to_string().contains("up to format 3"));
}

#[test]
fn a_journal_of_format_1_is_upgraded_once_it_proved_sound() {
    let dir = filled(3);
    let format = || -> u32 {
        let connection = Connection::open(dir.path().join("journal.sqlite")).unwrap();
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    tamper(dir.path(), "PRAGMA user_version = 1; UPDATE records SET checksum = zeroblob(32) WHERE revision = 3");
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt { .. })));
    assert_eq!(format(), 1, "nothing is changed in what is damaged");
    let dir = filled(3);
    tamper(dir.path(), "PRAGMA user_version = 1");
    let before = read_all(&*open(dir.path()).unwrap().reader().unwrap());
    let mut journal = open(dir.path()).unwrap();
    assert_eq!(read_all(&*journal.reader().unwrap()), before);
    let all = sample::one_of_each();
    append_all(&mut journal, &all[3..]);
    drop(journal);
    let connection = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    assert_eq!(connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)), Ok(3));
}

#[test]
fn what_is_not_a_journal_is_refused_and_left_alone() {
    for content in [&b"some text that is longer than a header"[..], b"", &[0; 5000]] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("journal.sqlite");
        fs::write(&path, content).unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Foreign { .. })), "{} bytes", content.len());
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let dir = TempDir::new().unwrap();
    tamper(dir.path(), "CREATE TABLE theirs (x)");
    assert!(matches!(open(dir.path()), Err(OpenError::Foreign { .. })));
}

#[test]
fn a_log_without_its_database_is_not_mistaken_for_a_new_start() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("journal.sqlite-wal"), b"frames").unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Corrupt { revision: Revision(0), .. })));
}

#[test]
fn damage_is_found_in_every_byte_of_a_record() {
    let dir = filled(3);
    let bytes = sample::revoking(Revision(2), 3).encode().unwrap();
    let database = fs::read(dir.path().join("journal.sqlite")).unwrap();
    for byte in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[byte] ^= 1;
        let hex: String = damaged.iter().map(|b| format!("{b:02x}")).collect();
        tamper(dir.path(), &format!("UPDATE records SET bytes = x'{hex}' WHERE revision = 2"));
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Corrupt { revision: Revision(2), .. }), "byte {byte}: {refused:?}");
        fs::write(dir.path().join("journal.sqlite"), &database).unwrap();
    }
    open(dir.path()).unwrap();
}

#[test]
fn every_other_damage_is_found_too() {
    for (revision, sql) in [
        (2, "UPDATE records SET checksum = zeroblob(32) WHERE revision = 2"),
        (2, "UPDATE records SET checksum = x'00' WHERE revision = 2"),
        (2, "DELETE FROM records WHERE revision = 2"),
        (1, "DELETE FROM records WHERE revision = 1"),
        (2, "UPDATE records SET bytes = zeroblob(0) WHERE revision = 2"),
        (3, "UPDATE records SET revision = 9 WHERE revision = 3"),
        (0, "DELETE FROM meta WHERE key = 'identity'"),
        (0, "UPDATE meta SET value = zeroblob(93) WHERE key = 'identity'"),
        (0, "UPDATE meta SET value = zeroblob(32) WHERE key = 'anchor'"),
        (0, "INSERT INTO meta VALUES ('pruned', x'00')"),
    ] {
        let dir = filled(3);
        tamper(dir.path(), sql);
        let refused = open(dir.path()).unwrap_err();
        assert!(matches!(refused, OpenError::Corrupt { revision: r, .. } if r.0 == revision), "{sql}: {refused:?}");
    }
}

#[test]
fn damage_before_the_anchor_is_found_by_a_full_check_and_by_reading() {
    let dir = filled(5);
    tamper(dir.path(), "UPDATE records SET bytes = zeroblob(200) WHERE revision = 2");
    let trusting = Options { verify_after: Revision(3), ..options() };
    let journal = EmbeddedJournal::open(dir.path(), &trusting).unwrap().journal;
    let at_2 = |error| matches!(error, ReadError::Corrupt { revision: Revision(2), .. });
    assert!(at_2(journal.verify_all().unwrap_err()));
    let reader = journal.reader().unwrap();
    assert!(at_2(reader.read(Revision(1), usize::MAX, 10).unwrap_err()));
    assert_eq!(reader.read(Revision(3), usize::MAX, 10).unwrap().len(), 3);
}

#[test]
fn a_log_that_ends_before_the_saved_state_is_refused() {
    let dir = filled(5);
    let ahead = Options { verify_after: Revision(6), ..options() };
    let refused = EmbeddedJournal::open(dir.path(), &ahead).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { revision: Revision(6), .. }), "{refused:?}");
    EmbeddedJournal::open(dir.path(), &Options { verify_after: Revision(5), ..options() }).unwrap();
}

#[test]
fn damaged_carried_revocations_are_found() {
    let dir = filled(3);
    let mut journal = open(dir.path()).unwrap();
    let limits = PruneLimits {
        through: Revision(3),
        now: UnixMillis(u64::MAX),
        retention: std::time::Duration::ZERO,
        records_max: 10,
    };
    assert_eq!(journal.prune(&limits, &|_, _| Some(crate::revocation::Minute::NEVER)).unwrap().carried, 6);
    drop(journal);
    tamper(dir.path(), "UPDATE carried SET bytes = zeroblob(100) WHERE revision = 2 AND place = 1");
    let journal = open(dir.path()).unwrap();
    let reader = journal.reader().unwrap();
    assert!(matches!(reader.carried(None, 10), Err(ReadError::Corrupt { revision: Revision(2), .. })));
}

#[test]
fn a_full_disk_refuses_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path()).unwrap();
    append_all(&mut journal, &[sample::revoking(Revision(1), 1)]);
    let pages: u32 = journal.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    journal.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let large = sample::revoking(Revision(2), 500);
    for _ in 0..3 {
        assert!(matches!(journal.append(&large), Err(AppendError::Full)));
    }
    assert_eq!(journal.reader().unwrap().head().unwrap(), Revision(1));
    journal.connection.pragma_update(None, "max_page_count", 1_000_000).unwrap();
    append_all(&mut journal, std::slice::from_ref(&large));
    assert_eq!(journal.reader().unwrap().record(Revision(2)).unwrap(), Some(large));
}

#[test]
fn a_store_that_turns_read_only_refuses_and_recovers() {
    let dir = filled(1);
    let mut journal = open(dir.path()).unwrap();
    journal.connection.pragma_update(None, "query_only", true).unwrap();
    assert!(matches!(journal.append(&sample::ticking(Revision(2))), Err(AppendError::ReadOnly)));
    journal.connection.pragma_update(None, "query_only", false).unwrap();
    append_all(&mut journal, &[sample::ticking(Revision(2))]);
}

#[test]
fn an_unclear_error_poisons_until_restart() {
    let dir = filled(1);
    let mut journal = open(dir.path()).unwrap();
    // Behind its back, the next revision is taken: an error that no rule knows.
    journal.connection.execute("INSERT INTO records VALUES (2, x'00', x'00')", []).unwrap();
    assert!(matches!(journal.append(&sample::ticking(Revision(2))), Err(AppendError::Poisoned(_))));
    journal.connection.execute("DELETE FROM records WHERE revision = 2", []).unwrap();
    assert!(matches!(journal.append(&sample::ticking(Revision(2))), Err(AppendError::Poisoned(_))));
    let limits = PruneLimits {
        through: Revision(1),
        now: UnixMillis(u64::MAX),
        retention: std::time::Duration::ZERO,
        records_max: 10,
    };
    assert!(matches!(journal.prune(&limits, &|_, _| None), Err(PruneError::Write(AppendError::Poisoned(_)))));
    drop(journal);
    append_all(&mut open(dir.path()).unwrap(), &[sample::ticking(Revision(2))]);
}

#[test]
fn readers_run_beside_the_writer_and_see_no_gap() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path()).unwrap();
    let reader: Arc<dyn JournalReader> = journal.reader().unwrap();
    let follower = std::thread::spawn(move || {
        let mut next = Revision(1);
        while next <= Revision(300) {
            for record in reader.read(next, 100_000, 50).unwrap() {
                assert_eq!(record.revision, next);
                next = next.next();
            }
        }
    });
    for revision in 1..=300 {
        append_all(&mut journal, &[sample::revoking(Revision(revision), 20)]);
    }
    follower.join().unwrap();
}

#[test]
fn the_write_ahead_log_stays_bounded() {
    let dir = TempDir::new().unwrap();
    let mut journal = open(dir.path()).unwrap();
    let mut longest = 0;
    for revision in 1..=160 {
        let mut record = sample::revoking(Revision(revision), 10_000);
        if let Body::Requests(requests) = &mut record.body {
            requests[0].principal = "p".repeat(500);
        }
        append_all(&mut journal, &[record]);
        longest = longest.max(fs::metadata(dir.path().join("journal.sqlite-wal")).unwrap().len());
    }
    let database = fs::metadata(dir.path().join("journal.sqlite")).unwrap().len();
    assert!(longest < 80 << 20, "{longest} bytes in the log, {database} in the database");
    assert!(database > 80 << 20, "{database} bytes: too few to tell");
}
