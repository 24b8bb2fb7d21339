//! A set is loaded only from exactly what its author made.

use super::*;
use crate::revocation::arbitrary::{key, minute};
use crate::revocation::{Cutoff, Selector, SetKey, TestedClaim};

const ENTRIES: u64 = 25_000;

fn entry(n: u64, expiry: Minute) -> SnapshotEntry {
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, expiry, false);
    SnapshotEntry { fingerprint: Fingerprint([n, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)]), entry, exceptions: vec![] }
}

fn state() -> SnapshotState {
    let shape = Selector::new([("sub", "x")], TestedClaim::Iat).unwrap().shape();
    SnapshotState {
        revision: Revision(7),
        floor: minute(3),
        policy: Policy::default(),
        shapes: vec![shape],
        verification: None,
    }
}

/// Three chunks of live entries; every tenth given has expired.
fn snapshot() -> (Vec<SnapshotChunk>, Built) {
    let mut builder = SnapshotBuilder::new(&key(), state());
    let given = (0..ENTRIES).flat_map(|n| {
        let expired = (n % 10 == 0).then(|| entry(2 * n, minute(3)));
        expired.into_iter().chain([entry(2 * n + 1, minute(4))])
    });
    let mut chunks: Vec<_> = given.filter_map(|entry| builder.push(&entry).unwrap()).collect();
    let built = builder.finish();
    chunks.extend(built.last.clone());
    assert_eq!(chunks.len(), 3);
    (chunks, built)
}

/// Loads it all; the first error.
fn load(key: SetKey, header: SnapshotHeader, chunks: &[SnapshotChunk], sha256: [u8; 32]) -> Result<u64, SnapshotError> {
    let mut builder = SetBuilder::begin(key, header, ENTRIES)?;
    chunks.iter().try_for_each(|chunk| builder.load(chunk))?;
    let (writer, set) = builder.finish(sha256)?;
    assert_eq!(set.stamp(), writer.stamp());
    Ok(writer.entries())
}

#[test]
fn intact_snapshot_loads_without_what_has_expired() {
    let (chunks, built) = snapshot();
    assert!(chunks.iter().all(|chunk| chunk.bytes.len() <= CHUNK_BYTES_MAX));
    assert_eq!(load(key(), built.header, &chunks, built.sha256), Ok(ENTRIES));
}

#[test]
fn each_fault_has_its_error() {
    let (chunks, built) = snapshot();
    let header = || built.header.clone();
    let with = |header, chunks: &[SnapshotChunk]| load(key(), header, chunks, built.sha256).unwrap_err();

    let mut damaged = chunks.clone();
    damaged[1].crc32c ^= 1;
    assert_eq!(with(header(), &damaged), SnapshotError::BadChecksum { index: 1 });

    assert_eq!(with(header(), &chunks[1..]), SnapshotError::ChunkOutOfOrder { expected: 0, given: 1 });
    let stated = |what, stated, found| SnapshotError::CountMismatch { what, stated, found };
    assert_eq!(with(header(), &chunks[..2]), stated("chunks", 3, 2));
    assert_eq!(with(SnapshotHeader { chunks: 2, ..header() }, &chunks), stated("chunks", 2, 3));
    let fewer = SnapshotHeader { entries: ENTRIES - 1, ..header() };
    assert_eq!(with(fewer, &chunks), stated("entries", ENTRIES - 1, ENTRIES));

    let swapped = [0, 1].map(|index| SnapshotChunk::new(index, chunks[1 - index as usize].bytes.clone()));
    assert_eq!(with(header(), &swapped), SnapshotError::OutOfOrder);

    let many = SnapshotHeader { entries: ENTRIES + 1, ..header() };
    assert_eq!(with(many, &chunks), SnapshotError::TooManyEntries { limit: ENTRIES, given: ENTRIES + 1 });

    let hollow = SnapshotChunk::new(0, Bytes::new());
    assert_eq!(with(header(), &[hollow]), SnapshotError::Malformed(DecodeError::Invalid("a chunk without entries")));
    let many = SnapshotHeader { entries: 2, ..header() };
    assert_eq!(with(many, &chunks), SnapshotError::Malformed(DecodeError::Invalid("more chunks than entries")));

    let mut later = header();
    later.state.floor = minute(4);
    assert_eq!(with(later, &chunks), SnapshotError::Expired);
    let mut never = header();
    never.state.floor = Minute::NEVER;
    assert_eq!(with(never, &chunks), SnapshotError::Malformed(DecodeError::Invalid("floor")));

    let mut other = header();
    other.state.revision = Revision(8);
    assert_eq!(with(other, &chunks), SnapshotError::HashMismatch);
    let stranger = load(SetKey::new([9; 16]), header(), &chunks, built.sha256);
    assert_eq!(stranger, Err(SnapshotError::DigestMismatch), "another key");
}

#[test]
fn builder_refuses_entries_out_of_order() {
    let mut builder = SnapshotBuilder::new(&key(), state());
    builder.push(&entry(2, minute(9))).unwrap();
    for n in [2, 1] {
        assert_eq!(builder.push(&entry(n, minute(9))), Err(SnapshotError::OutOfOrder));
    }
}

#[test]
fn empty_snapshot_has_no_chunk_and_loads() {
    let built = SnapshotBuilder::new(&key(), state()).finish();
    assert_eq!(built.last, None);
    assert_eq!(load(key(), built.header, &[], built.sha256), Ok(0));
}
