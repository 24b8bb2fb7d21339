//! A data directory that cannot be used, and a disk that stops taking writes: nothing is lost, checks go on.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::caller::{Caller, Outcome, claims, revocation};
use common::load::{self, Writers};
use common::server::Server;
use common::{Random, http, skip, wait_until};
use rescind::wire::pb;
use rusqlite::Connection;
use serde_json::json;
use tonic::Code;

/// How soon a server notices by itself that the disk takes writes again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);
/// Room for a journal, an index and a few snapshots.
const SMALL_DISK: &str = "size=2m";
/// The smallest that ext4 keeps a journal on, and some.
const EXT4_BYTES: u64 = 32 << 20;
const WRITERS: usize = 3;
const ITEMS_MAX: u64 = 10;
/// Requests that a load is let do.
const REQUESTS: usize = 50;

/// A file system of its own on a directory; unmounted when dropped.
struct Disk {
    dir: tempfile::TempDir,
    /// The file it is in, if it is in one.
    image: Option<tempfile::NamedTempFile>,
}

impl Disk {
    /// `None`, said loudly, where mounting is not permitted.
    fn mount() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("rescind-disk-").tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SMALL_DISK, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { dir, image: None }),
            Ok(output) => {
                skip(&format!("no tmpfs can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                skip(&format!("no tmpfs can be mounted: {error}"));
                None
            }
        }
    }

    /// One in a file, with ext4: the kernel makes that read-only under open files when it finds an error.
    fn mount_ext4() -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("rescind-disk-").tempdir().unwrap();
        let disk = Self { image: Some(tempfile::Builder::new().prefix("rescind-image-").tempfile().unwrap()), dir };
        let image = disk.image.as_ref().unwrap();
        image.as_file().set_len(EXT4_BYTES).unwrap();
        let mut made = Command::new("mkfs.ext4");
        match made.arg("-qF").arg(image.path()).output().map(|output| output.status.success() && disk.mount_image()) {
            Ok(true) => Some(disk),
            Ok(false) => {
                skip("no ext4 in a file can be made and mounted");
                None
            }
            Err(error) => {
                skip(&format!("no ext4 can be made: {error}"));
                None
            }
        }
    }

    fn mount_image(&self) -> bool {
        let image = self.image.as_ref().unwrap().path();
        Command::new("mount").args(["-o", "loop"]).arg(image).arg(self.path()).output().unwrap().status.success()
    }

    /// As after a start of the machine: everything from the file, and what the file system's own journal has to mend.
    fn mount_again(&self) {
        assert!(Command::new("umount").arg(self.path()).status().unwrap().success());
        assert!(self.mount_image());
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves no byte free; removing the file it returns frees them again.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut ballast = File::create(&path).unwrap();
        for block in [64 * 1024, 4096, 1] {
            while ballast.write_all(&vec![7; block]).is_ok() {}
        }
        path
    }

    fn remount(&self, option: &str) {
        let mode = format!("remount,{option}");
        assert!(Command::new("mount").args(["-o", &mode]).arg(self.path()).status().unwrap().success(), "{mode}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn jti(n: usize) -> pb::Revocation {
    revocation(&[("jti", &n.to_string())])
}

async fn assert_revoked(caller: &Caller, n: usize) {
    let outcome = caller.check(claims(&json!({ "jti": n.to_string() }))).await.unwrap();
    assert_eq!(outcome, Outcome::Revoked, "{n}");
}

/// Holds that a start was refused with one line that says this.
#[track_caller]
fn assert_refused(output: &Output, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let all = format!("{}{said}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(output.status.code(), Some(2), "{all}");
    assert!(said.contains(says), "{says:?} is not said:\n{all}");
    assert!(!said.contains("panicked"), "{all}");
}

/// A server with ten revocations, stopped.
async fn stopped_with_ten() -> Server {
    let mut server = Server::start();
    let caller = Caller::new(server.listen);
    for n in 0..10 {
        caller.revoke(vec![jti(n)]).await.unwrap();
    }
    server.kill();
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_in_use_is_refused_and_its_owner_is_not_disturbed() {
    let owner = Server::start();
    let caller = Caller::new(owner.listen);
    caller.revoke(vec![jti(1)]).await.unwrap();
    let before = caller.standing().await;

    let second = Server::prepare(Some(&owner.data_dir), &[]);
    assert_refused(&second.refused_start(), "in use");

    assert_eq!(caller.standing().await, before);
    caller.revoke(vec![jti(2)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_a_record_is_named_by_its_revision_and_nothing_is_repaired() {
    let server = stopped_with_ten().await;
    let path = server.data_dir.join("journal.sqlite");
    let journal = Connection::open(&path).unwrap();
    let (revision, mut bytes): (u64, Vec<u8>) = journal
        .query_row("SELECT revision, bytes FROM records ORDER BY revision DESC LIMIT 1 OFFSET 4", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    journal.execute("UPDATE records SET bytes = ?1 WHERE revision = ?2", rusqlite::params![bytes, revision]).unwrap();
    drop(journal);
    let before = fs::read(&path).unwrap();

    assert_refused(&server.refused_start(), &format!("corrupt at revision {revision}"));
    assert_eq!(fs::read(&path).unwrap(), before, "the journal is left for people to look at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_database_are_refused() {
    let server = stopped_with_ten().await;
    let path = server.data_dir.join("journal.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    bytes[..1024].fill(0x55);
    fs::write(&path, &bytes).unwrap();
    assert_refused(&server.refused_start(), "journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_record_is_a_gap_and_refused() {
    let server = stopped_with_ten().await;
    let journal = Connection::open(server.data_dir.join("journal.sqlite")).unwrap();
    let gap = "DELETE FROM records WHERE revision = (SELECT MAX(revision) - 3 FROM records)";
    assert_eq!(journal.execute(gap, []).unwrap(), 1);
    drop(journal);
    assert_refused(&server.refused_start(), "corrupt at revision");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_refused_with_both_numbers() {
    let server = stopped_with_ten().await;
    let journal = Connection::open(server.data_dir.join("journal.sqlite")).unwrap();
    journal.pragma_update(None, "user_version", 4000).unwrap();
    drop(journal);
    assert_refused(&server.refused_start(), "format 4000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_index_and_lost_snapshots_are_made_again() {
    let mut server = stopped_with_ten().await;
    for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        let _ = fs::remove_file(server.data_dir.join(name));
    }
    fs::remove_dir_all(server.data_dir.join("snapshots")).unwrap();
    server.restart();
    let caller = Caller::new(server.listen);
    assert_revoked(&caller, 9).await;
    let at_least = caller.status().await.position;
    let request = pb::ListRevocationsRequest { at_least, ..pb::ListRevocationsRequest::default() };
    let listed = caller.revocations().list_revocations(request).await.unwrap().into_inner();
    assert_eq!(listed.revocations.len(), 10);
}

/// Writes until the journal refuses one, and holds how it refuses. Returns how many were accepted, `from` included.
async fn write_until_refused(caller: &Caller, server: &Server, from: usize, says: &str) -> usize {
    let mut next = from;
    let status = loop {
        match caller.revoke(vec![jti(next)]).await {
            Ok(_) => next += 1,
            Err(status) => break status,
        }
        assert!(next < from + 100_000, "the disk never refuses");
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains(says), "{status:?}");
    let body = json!({ "revocations": [{ "selector": { "jti": "json" } }] }).to_string();
    let answer = http::post(server.listen, "/v1/revocations", &body);
    assert_eq!(answer.status, 503, "{answer:?}");
    let ready = http::get(server.ops, "/readyz").unwrap();
    assert!(ready.body.contains(says), "/readyz says why: {ready:?}");
    let metrics = http::get(server.ops, "/metrics").unwrap();
    assert!(metrics.body.contains("rescind_writes_refused 1"), "{}", metrics.body);
    next
}

/// Holds that everything acknowledged is found, now and after a kill.
async fn assert_nothing_lost(server: &mut Server, count: usize) {
    let caller = Caller::new(server.listen);
    for n in 0..count {
        assert_revoked(&caller, n).await;
    }
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}

async fn until_writes_work(caller: &Caller, n: usize) {
    tokio::time::timeout(RECOVERY_LIMIT, async {
        while caller.revoke(vec![jti(n)]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("writes work again without a restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_answers_checks_until_space_is_freed() {
    let Some(disk) = Disk::mount() else { return };
    let mut server = Server::start_with(Some(&disk.path().join("data")), &[]);
    let caller = Caller::new(server.listen);
    for n in 0..10 {
        caller.revoke(vec![jti(n)]).await.unwrap();
    }

    let ballast = disk.fill();
    let accepted = write_until_refused(&caller, &server, 10, "the disk is full").await;
    assert_nothing_lost(&mut server, accepted).await;

    fs::remove_file(ballast).unwrap();
    until_writes_work(&caller, accepted).await;
    wait_until("/readyz is content again", RECOVERY_LIMIT, || {
        http::get(server.ops, "/readyz").filter(|ready| !ready.body.contains("disk"))
    });
    server.kill();
    server.restart();
    assert_nothing_lost(&mut server, accepted + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_refuses_the_start_and_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let mut server = Server::start_with(Some(&disk.path().join("data")), &[]);
    let caller = Caller::new(server.listen);
    caller.revoke(vec![jti(0)]).await.unwrap();

    // People cannot make a file system read-only while a file is open for writing, so the server meets it at its start.
    server.kill();
    disk.remount("ro");
    assert_refused(&server.refused_start(), "read-only");
    disk.remount("rw");
    server.restart();
    assert_nothing_lost(&mut server, 1).await;
    Caller::new(server.listen).revoke(vec![jti(1)]).await.unwrap();
}

/// Holds that writes are refused, and operators told why, while checks say what was acknowledged.
async fn assert_writes_refused(caller: &Caller, server: &Server, fates: &[load::Fate], says: &str) {
    let status = caller.revoke(vec![jti(0)]).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let ready = http::get(server.ops, "/readyz").unwrap();
    assert!(ready.status == 200 && ready.body.contains(says), "{says:?} is not said: {ready:?}");
    load::assert_nothing_lost(caller, fates, u64::MAX, says).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_turns_read_only_under_load_refuses_writes_and_loses_nothing() {
    let Some(disk) = Disk::mount_ext4() else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_with(Some(&disk.path().join("data")), &[]);
    let caller = Caller::new(server.listen);
    // What ext4 is syncing at that very moment it can call synced and lose: a plain loop of writes and syncs shows the same.
    // What is judged after the restart was synced before.
    let turning = Arc::new(AtomicU64::new(0));
    let now = Arc::clone(&turning);
    let writers = Writers::start(
        || Caller::new(server.listen),
        WRITERS,
        ITEMS_MAX,
        &mut random,
        move || now.load(Ordering::SeqCst),
    );
    writers.until(REQUESTS).await;
    turning.store(1, Ordering::SeqCst);
    disk.remount("abort");
    // Until they are refused.
    writers.until(usize::MAX).await;
    let (fates, refusals) = writers.stop().await;
    assert!(refusals.iter().all(|status| status.code() == Code::Unavailable), "{refusals:?}");
    assert_writes_refused(&caller, &server, &fates, "writes are refused").await;
    assert!(server.is_alive());

    server.kill();
    disk.mount_again();
    server.restart();
    let caller = Caller::new(server.listen);
    load::assert_nothing_lost(&caller, &fates, 0, "mounted again").await;
    caller.revoke(vec![jti(0)]).await.unwrap();
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_under_load_takes_writes_again_once_there_is_space_and_loses_nothing() {
    const TIMES: usize = 3;
    let Some(disk) = Disk::mount_ext4() else { return };
    let mut random = Random::seeded();
    let mut server = Server::start_with(Some(&disk.path().join("data")), &[]);
    let caller = Caller::new(server.listen);
    let mut fates = Vec::new();
    for _ in 0..TIMES {
        let writers = Writers::start(|| Caller::new(server.listen), WRITERS, ITEMS_MAX, &mut random, || 0);
        writers.until(REQUESTS).await;
        let ballast = disk.fill();
        writers.until(usize::MAX).await;
        let (written, refusals) = writers.stop().await;
        fates.extend(written);
        assert!(refusals.iter().all(|status| status.code() == Code::Unavailable), "{refusals:?}");
        assert_writes_refused(&caller, &server, &fates, "writes are refused").await;
        fs::remove_file(ballast).unwrap();
        until_writes_work(&caller, 0).await;
        load::assert_nothing_lost(&caller, &fates, u64::MAX, "space again").await;
    }
    server.kill();
    server.restart();
    load::assert_nothing_lost(&Caller::new(server.listen), &fates, u64::MAX, "restarted").await;
    assert!(!server.log_text().contains("panicked"), "{}", server.log_text());
}

#[test]
fn a_full_disk_at_the_first_start_is_named() {
    let Some(disk) = Disk::mount() else { return };
    let data = disk.path().join("data");
    fs::create_dir(&data).unwrap();
    disk.fill();
    assert_refused(&Server::prepare(Some(&data), &[]).refused_start(), "full");
}
