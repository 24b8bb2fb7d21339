//! Files that are read at a start: the authority's snapshot, a replica's cache, a backup's manifest.
//!
//! Each input is tried as it is, and once more with its checksums put right, so that what is behind them is reached too.

use std::fs;
use std::path::{Path, PathBuf};

use rescind::fuzzing;
use rescind::replication::follower::{Action, Follower, FollowerOptions, Kept};
use rescind::replication::frames::{NodeId, SnapshotEnd, ToSubscriber};
use rescind::revocation::Digest;
use sha2::{Digest as _, Sha256};

use super::authority::{Authority, EPOCH, set_key, signer};
use super::frames::encode_for_subscriber;
use super::note_accepted;

/// Before the first block of the authority's snapshot, in bytes.
const SNAPSHOT_HEAD: usize = 16 + 4;
/// Behind its last block.
const SNAPSHOT_FOOTER: usize = 8 + 8 + 8 + 8 + 32;
/// Before the first section of a cached snapshot.
const CACHE_HEAD: usize = 16 + 4;
/// The most entries of a cached set.
const ENTRIES_MAX: u64 = 1000;

pub fn authority_snapshot(bytes: &[u8]) {
    let folder = folder();
    let (path, other, third) = (folder.join("1.snapshot"), folder.join("2.snapshot"), folder.join("3.snapshot"));
    for bytes in [bytes.to_vec(), with_sums(bytes)] {
        fs::write(&path, &bytes).expect("the folder can be written");
        let loaded = fuzzing::authority_snapshot(&path, &set_key());
        match fuzzing::rewrite_authority_snapshot(&path, &other) {
            Err(_) => assert!(loaded.is_err(), "what is loaded can be read row by row"),
            Ok(counts) => {
                note_accepted();
                assert!(loaded.is_err() || loaded.is_ok_and(|stamp| stamp.entries <= counts.0));
                let again = fuzzing::rewrite_authority_snapshot(&other, &third);
                assert_eq!(again.ok(), Some(counts));
                assert_eq!(fs::read(&other).ok(), fs::read(&third).ok(), "there is one way to write a snapshot");
            }
        }
    }
}

/// The same file with the checksum of each block and the hash at its end put right.
fn with_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some(end) = bytes.len().checked_sub(SNAPSHOT_FOOTER) else { return bytes };
    put_sums(&mut bytes[..end], SNAPSHOT_HEAD);
    // The hash covers what is before the footer.
    let hash: [u8; 32] = Sha256::digest(&bytes[..end]).into();
    bytes[end + 32..].copy_from_slice(&hash);
    bytes
}

/// Puts the CRC-32C behind each length right, as far as lengths lead.
fn put_sums(bytes: &mut [u8], head: usize) {
    let mut at = head;
    while let Some(Ok(length)) = bytes.get(at..at + 4).map(<[u8; 4]>::try_from) {
        let begin = at + 8;
        let Some(body) = bytes.get(begin..begin.saturating_add(u32::from_le_bytes(length) as usize)) else { return };
        let (sum, end) = (crc32c::crc32c(body), begin + body.len());
        bytes[at + 4..begin].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
}

/// A snapshot and, behind a mark, what follows it. Whatever is served of it is a state that the authority signed.
pub fn replica_cache(bytes: &[u8]) {
    let (snapshot, deltas) = split(bytes);
    for fixed in [false, true] {
        let (mut snapshot, mut deltas) = (snapshot.to_vec(), deltas.to_vec());
        if fixed {
            put_sums(&mut snapshot, CACHE_HEAD);
            if let Some(head) = deltas.get(..84).map(crc32c::crc32c) {
                let end = deltas.len().min(88);
                deltas[84..end].copy_from_slice(&head.to_le_bytes()[..end - 84]);
            }
            put_sums(&mut deltas, 88);
        }
        let Some(kept) = read_cache(&folder(), &snapshot, &deltas) else { continue };
        begin_from(kept);
    }
}

/// The two files of a cache in one input, as [`split`] takes them apart.
pub fn joined(snapshot: &[u8], deltas: &[u8]) -> Vec<u8> {
    [&(snapshot.len() as u16).to_le_bytes()[..], snapshot, deltas].concat()
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return (&[], &[]) };
    rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()))
}

fn read_cache(folder: &Path, snapshot: &[u8], deltas: &[u8]) -> Option<Kept> {
    let dir = folder.join("cache");
    fs::create_dir_all(&dir).expect("the folder can be written");
    fs::write(dir.join("snapshot"), snapshot).expect("the folder can be written");
    // The file of deltas is named after the signature in the snapshot; without deltas there is none.
    let kept = fuzzing::cache(&dir, ENTRIES_MAX)?;
    let name = dir.join(deltas_name(&kept.snapshot.end));
    fs::write(&name, deltas).expect("the folder can be written");
    let kept = fuzzing::cache(&dir, ENTRIES_MAX);
    fs::remove_file(name).expect("it was just written");
    kept
}

fn deltas_name(end: &SnapshotEnd) -> String {
    let id = end.signature.0.iter().take(8).map(|byte| format!("{byte:02x}"));
    std::iter::once("deltas-".to_owned()).chain(id).collect()
}

fn begin_from(kept: Kept) {
    // It is encoded for others as it is: that must not depend on whether it is sound.
    encode_for_subscriber(&ToSubscriber::SnapshotEnd(kept.snapshot.end.clone()));
    let mut options = FollowerOptions::leaf(NodeId([1; 16]), "fuzz", 1);
    options.public_key = Some(signer().public_key());
    options.entries_max = ENTRIES_MAX;
    let mut follower = Follower::new(options);
    if follower.handle_cache(kept).is_err() {
        return assert_eq!(follower.status().epoch, None, "what is refused is not held");
    }
    note_accepted();
    let status = follower.status();
    assert_eq!(status.epoch, Some(EPOCH));
    let authority = cached_authority();
    assert!(status.revision <= authority.head(), "the authority never signed more");
    let signed: Digest = authority.at(status.revision).digest;
    assert_eq!(status.digest, signed);
    assert!(matches!(follower.poll_action(), Some(Action::Swap(swap)) if swap.set.digest() == signed));
}

/// The authority whose words the caches of the corpus hold.
pub fn cached_authority() -> Authority {
    let mut authority = Authority::new();
    (0..3).for_each(|subject| authority.commit(subject, false));
    authority.commit(1, true);
    authority
}

pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(again) = fuzzing::manifest(text) {
        note_accepted();
        assert_eq!(fuzzing::manifest(&again).as_ref(), Some(&again), "a manifest is read as it was written");
        let mut names = again.lines().skip(2).filter_map(|line| line.rsplit(' ').next());
        assert!(names.all(|name| name.split('/').all(|part| !part.starts_with('.') && !part.is_empty())), "no way out");
    }
}

/// A folder of this thread, in memory where the system has such a place.
fn folder() -> PathBuf {
    thread_local! {
        static FOLDER: PathBuf = {
            let shared = Path::new("/dev/shm");
            let root = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
            let name = format!("rescind-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
            let folder = root.join(name.replace(['(', ')'], ""));
            fs::create_dir_all(&folder).expect("a temporary folder can be made");
            folder
        };
    }
    FOLDER.with(Clone::clone)
}
