//! A disk that is really full, and one that is really read-only: needs the right to mount, and says so where it is
//! missing.

use std::process::Command;

use super::*;

/// A file system of its own, in memory; unmounted when dropped.
struct Mounted {
    dir: TempDir,
}

impl Mounted {
    /// `None` where mounting is not allowed.
    fn new(size: &str) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let options = format!("size={size},mode=700");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "rescind-test"]).arg(dir.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self { dir });
        }
        eprintln!("skipped: mounting a small file system is not allowed here");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.dir.path()).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

#[test]
fn a_really_full_disk_refuses_and_takes_up_again_where_it_was() {
    let Some(disk) = Mounted::new("2m") else { return };
    let dir = disk.dir.path();
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; 300_000]).unwrap();
    let mut journal = open(dir).unwrap();
    let mut appended = Vec::new();
    let refused = loop {
        let record = sample::revoking(Revision(appended.len() as u64 + 1), 50);
        match journal.append(&record) {
            Ok(_) => appended.push(record),
            Err(error) => break error,
        }
        assert!(appended.len() < 10_000, "the disk never fills up");
    };
    assert!(matches!(refused, AppendError::Full), "{refused:?}");
    assert!(appended.len() > 10);
    let reader = journal.reader().unwrap();
    assert_eq!(read_all(&*reader), appended, "reading goes on");
    fs::remove_file(&ballast).unwrap();
    let next = sample::revoking(Revision(appended.len() as u64 + 1), 50);
    append_all(&mut journal, std::slice::from_ref(&next));
    appended.push(next);
    drop((journal, reader));
    // A start copies the write-ahead log into the database, and says so if there is no room for that.
    assert!(matches!(open(dir), Err(OpenError::Full { .. })));
    disk.remount("size=8m");
    assert_eq!(read_all(&*open(dir).unwrap().reader().unwrap()), appended);
}

#[test]
fn a_disk_too_small_for_a_journal_is_named_full() {
    let Some(disk) = Mounted::new("16k") else { return };
    let refused = open(disk.dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Full { .. }), "{refused:?}");
}

#[test]
fn a_read_only_disk_is_named_so() {
    let Some(disk) = Mounted::new("4m") else { return };
    let dir = disk.dir.path();
    append_all(&mut open(dir).unwrap(), &[sample::ticking(Revision(1))]);
    disk.remount("ro");
    let refused = open(dir).unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
    let refused = open(&dir.join("below")).unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
}
