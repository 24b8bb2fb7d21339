//! Every encoding of the core round-trips, and no bytes whatever make a decoder panic.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::revocation::arbitrary::{any_entry, any_shape, any_verification, key, minute};
use crate::revocation::{
    Delta, Digest, LifetimePolicy, Policy, Revision, SnapshotBuilder, SnapshotChunk, SnapshotEntry, SnapshotHeader,
    SnapshotState, UnixMillis, WhenStale,
};
use std::sync::Arc;
use std::time::Duration;

fn any_fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<[u64; 2]>().prop_map(Fingerprint)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<[u64; 8]>(), any::<bool>(), any::<bool>(), any::<u64>()).prop_map(|(words, deny, enforce, losses)| Policy {
        max_entries: words[0],
        max_token_lifetime: Duration::from_secs(words[1]),
        max_session_lifetime: Duration::from_secs(words[2]),
        expiry_leeway: Duration::from_secs(words[3]),
        expiry_grace: Duration::from_secs(words[4]),
        max_staleness: Duration::from_secs(words[5]),
        clock_skew_max: Duration::from_secs(words[6]),
        issuer_clock_skew: Duration::from_secs(words[7]),
        when_stale: if deny { WhenStale::Deny } else { WhenStale::ServeStale },
        lifetime_policy: if enforce { LifetimePolicy::Enforce } else { LifetimePolicy::Warn },
        losses_accepted: losses & 3,
    })
}

fn any_delta() -> impl Strategy<Value = Delta> {
    let shapes = || btree_set(any_shape(), 0..4);
    let upserts = btree_map(any_fingerprint(), any_entry(), 0..12);
    let removals = btree_set(any_fingerprint(), 0..6);
    let verification = prop::option::of(any_verification().prop_map(Arc::new));
    let rest = (any::<u64>(), any::<u64>(), prop::option::of(any_policy()), verification, any::<[u8; 16]>());
    (shapes(), shapes(), upserts, removals, rest).prop_map(|(added, retired, upserts, removals, rest)| {
        let (revision, source_time, policy, verification, digest) = rest;
        let extended = upserts.values().filter(|entry| !entry.exceptions.is_empty());
        Delta {
            shapes_added: added.into_iter().collect(),
            shapes_retired: retired.into_iter().collect(),
            extended: extended.map(|entry| entry.exceptions.clone()).collect(),
            removals: removals.into_iter().filter(|removal| !upserts.contains_key(removal)).collect(),
            upserts: upserts.iter().map(|(fingerprint, entry)| (*fingerprint, entry.packed())).collect(),
            policy,
            verification,
            digest_after: Digest::from_bytes(digest),
            ..Delta::empty(Revision(revision), UnixMillis(source_time), minute(7))
        }
    })
}

fn any_state() -> impl Strategy<Value = SnapshotState> {
    let verification = prop::option::of(any_verification().prop_map(Arc::new));
    let parts = (any::<u64>(), any_policy(), btree_set(any_shape(), 0..6), verification);
    parts.prop_map(|(revision, policy, shapes, verification)| SnapshotState {
        revision: Revision(revision),
        floor: minute(3),
        policy,
        shapes: shapes.into_iter().collect(),
        verification,
    })
}

fn any_snapshot() -> impl Strategy<Value = (SnapshotHeader, Option<SnapshotChunk>, Vec<SnapshotEntry>)> {
    (any_state(), btree_map(any_fingerprint(), any_entry(), 0..20)).prop_map(|(state, entries)| {
        let entries: Vec<SnapshotEntry> = entries
            .into_iter()
            .filter(|(_, entry)| entry.expiry > state.floor)
            .map(|(fingerprint, entry)| SnapshotEntry {
                fingerprint,
                entry: entry.packed(),
                exceptions: entry.exceptions,
            })
            .collect();
        let mut builder = SnapshotBuilder::new(&key(), state);
        assert!(entries.iter().all(|entry| builder.push(entry).unwrap().is_none()), "few entries fit one chunk");
        let built = builder.finish();
        (built.header, built.last, entries)
    })
}

/// Replaces some bytes, and may cut or lengthen the rest.
fn mutate(bytes: &[u8], changes: &[(Index, u8)], length: Option<Index>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = length.map_or(bytes.len(), |length| length.index(bytes.len() * 2 + 1));
    bytes.resize(length, 0xff);
    if !bytes.is_empty() {
        changes.iter().for_each(|(at, byte)| bytes[at.index(length)] = *byte);
    }
    bytes
}

fn any_changes() -> impl Strategy<Value = Vec<(Index, u8)>> {
    vec((any::<Index>(), any::<u8>()), 0..4)
}

proptest! {
    #[test]
    fn delta_round_trips(delta in any_delta()) {
        prop_assert_eq!(Delta::decode(&delta.encode()), Ok(delta));
    }

    #[test]
    fn policy_round_trips(policy in any_policy()) {
        prop_assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }

    #[test]
    fn snapshot_header_and_chunk_round_trip((header, chunk, entries) in any_snapshot()) {
        prop_assert_eq!(SnapshotHeader::decode(&header.encode()), Ok(header));
        let read = chunk.map_or(Ok(Vec::new()), |chunk| chunk.entries().unwrap().collect());
        prop_assert_eq!(read, Ok(entries));
    }

    #[test]
    fn mutated_delta_is_refused_or_canonical(
        delta in any_delta(), changes in any_changes(), length in prop::option::of(any::<Index>()),
    ) {
        let bytes = mutate(&delta.encode(), &changes, length);
        if let Ok(decoded) = Delta::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
    }

    #[test]
    fn mutated_snapshot_is_refused_or_canonical(
        (header, chunk, _) in any_snapshot(), changes in any_changes(), length in prop::option::of(any::<Index>()),
    ) {
        let bytes = mutate(&header.encode(), &changes, length);
        if let Ok(decoded) = SnapshotHeader::decode(&bytes) {
            prop_assert_eq!(decoded.encode(), bytes);
        }
        if let Some(chunk) = chunk {
            let damaged = mutate(&chunk.bytes, &changes, length);
            let unnoticed = SnapshotChunk::new(0, damaged.clone().into());
            let _ = unnoticed.entries().unwrap().collect::<Result<Vec<_>, _>>();
            let noticed = SnapshotChunk { bytes: damaged.clone().into(), ..chunk.clone() };
            prop_assert!(noticed.entries().is_err() || damaged == chunk.bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_make_no_decoder_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = Delta::decode(&bytes);
        let _ = SnapshotHeader::decode(&bytes);
        let _ = Policy::decode(&bytes);
        let _ = Shape::decode(&mut &bytes[..]);
        let _ = SnapshotChunk::new(0, bytes.into()).entries().unwrap().collect::<Result<Vec<_>, _>>();
    }
}

#[test]
fn a_verification_policy_follows_the_bytes_that_were_always_there() {
    let before = Delta::empty(Revision(7), UnixMillis(9), minute(1));
    let after =
        Delta { verification: Some(Arc::new(crate::revocation::arbitrary::verification(3, 5))), ..before.clone() };
    let (short, long) = (before.encode(), after.encode());
    let flags = short.len() - 17;
    assert_eq!((short[flags], long[flags]), (0, 2));
    assert_eq!(short[..flags], long[..flags]);
    let policy = b"\x03\0\0\0\0\0\0\0\x15\0\0\0\0\0\x01\0\x07\0class-5\0\0\0\0\0\0\0\0";
    assert_eq!(long[flags + 1..long.len() - 16], policy[..]);
    assert_eq!((Delta::decode(&short), Delta::decode(&long)), (Ok(before), Ok(after)));
    for flag in 4..=255 {
        let mut other = short.clone();
        other[flags] = flag;
        assert_eq!(Delta::decode(&other), Err(DecodeError::Invalid("policy flags")), "{flag}");
    }
}
