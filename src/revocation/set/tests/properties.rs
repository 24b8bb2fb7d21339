//! The set equals the naive model, whatever happens to it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{Model, any_revision};
use super::*;
use crate::revocation::arbitrary::{any_token, selectors};
use crate::revocation::snapshot::{SetBuilder, SnapshotBuilder, SnapshotChanges, SnapshotEntry, SnapshotState};

/// Compares everything that can be asked of a set with the model.
fn check_equal(writer: &SetWriter, model: &Model, tokens: &[crate::revocation::arbitrary::Token]) {
    let set = writer.set();
    assert_eq!(writer.digest(), model.digest());
    assert_eq!(writer.entries(), model.entries().len() as u64);
    assert_eq!(writer.shapes(), model.shapes());
    assert_eq!(set.shapes(), model.shapes());
    assert_eq!(set.stamp(), writer.stamp());
    assert_eq!(set.verification().as_ref(), model.verification());
    for selector in selectors() {
        let fingerprint = key().fingerprint(&selector);
        assert_eq!(writer.entry(fingerprint).as_ref(), model.entries().get(&fingerprint).map(|(_, entry)| entry));
    }
    for token in tokens {
        let finding = set.check(&token.claims(), NOW);
        let expected = model.hits(token);
        assert_eq!(finding.revision, writer.revision());
        match finding.hit {
            None => assert_eq!(expected, [], "missed {token:?}"),
            Some(hit) => {
                assert_eq!(Some(&hit.shape), expected.first().map(|(shape, _)| shape), "{token:?}");
                assert!(expected.contains(&(hit.shape, hit.cutoff)), "{token:?}");
            }
        }
    }
}

/// A snapshot's parts.
struct Snapshot {
    header: crate::revocation::snapshot::SnapshotHeader,
    chunks: Vec<crate::revocation::snapshot::SnapshotChunk>,
    sha256: [u8; 32],
}

fn build(mut builder: SnapshotBuilder, entries: impl Iterator<Item = SnapshotEntry>) -> Snapshot {
    let mut chunks: Vec<_> = entries.filter_map(|entry| builder.push(&entry).unwrap()).collect();
    let built = builder.finish();
    chunks.extend(built.last);
    Snapshot { header: built.header, chunks, sha256: built.sha256 }
}

fn snapshot_of(writer: &SetWriter, model: &Model) -> Snapshot {
    let entries = model.entries().iter().map(|(fingerprint, (_, entry))| SnapshotEntry {
        fingerprint: *fingerprint,
        entry: entry.packed(),
        exceptions: entry.exceptions.clone(),
    });
    build(SnapshotBuilder::new(&key(), state_of(writer)), entries)
}

fn state_of(writer: &SetWriter) -> SnapshotState {
    SnapshotState {
        revision: writer.revision(),
        floor: writer.floor(),
        policy: *writer.policy(),
        shapes: writer.shapes().to_vec(),
        verification: writer.verification().cloned(),
    }
}

proptest! {
    #[test]
    fn set_equals_the_model_after_every_revision(
        revisions in vec((any_revision(), any::<bool>()), 1..12),
        tokens in vec(any_token(), 12),
    ) {
        let (mut writer, _set) = empty();
        let mut model = Model::default();
        for (steps, sweeps) in revisions {
            let before = writer.stamp();
            let delta = model.advance(&writer, &steps);
            prop_assert_eq!(writer.stamp(), before, "staging changed the set");
            let wrong = Delta { digest_after: delta.digest_after.plus(Digest::of_floor(&key(), minute(0))), ..delta.clone() };
            prop_assert_eq!(
                writer.apply(&wrong).unwrap_err(),
                StageError::DigestMismatch { revision: delta.revision }
            );
            prop_assert_eq!(writer.stamp(), before, "a refused delta changed the set");
            let applied = writer.apply(&delta).unwrap();
            prop_assert_eq!(applied.stamp.digest, delta.digest_after);
            let stale = StageError::Stale { current: delta.revision, given: delta.revision };
            prop_assert_eq!(writer.apply(&delta).unwrap_err(), stale);
            if sweeps {
                writer.sweep(usize::MAX);
                prop_assert_eq!(writer.set().map.len() as u64, writer.entries());
            }
            check_equal(&writer, &model, &tokens);
        }
    }

    #[test]
    fn snapshot_loads_into_an_equal_set(
        revisions in vec(any_revision(), 1..8),
        tokens in vec(any_token(), 8),
    ) {
        let (mut writer, _set) = empty();
        let mut model = Model::default();
        for steps in revisions {
            let delta = model.advance(&writer, &steps);
            let _ = writer.apply(&delta).unwrap();
        }
        let snapshot = snapshot_of(&writer, &model);
        prop_assert_eq!(snapshot.header.digest, writer.digest());
        let mut builder = SetBuilder::begin(key(), snapshot.header, 1000).unwrap();
        snapshot.chunks.iter().for_each(|chunk| builder.load(chunk).unwrap());
        let (loaded, _set) = builder.finish(snapshot.sha256).unwrap();
        prop_assert_eq!(loaded.stamp(), writer.stamp());
        check_equal(&loaded, &model, &tokens);
    }

    #[test]
    fn merged_snapshot_equals_one_built_directly(
        revisions in vec(any_revision(), 2..10),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut writer, _set) = empty();
        let mut model = Model::default();
        let cut = cut.index(revisions.len());
        let mut base = snapshot_of(&writer, &model);
        let mut changes = SnapshotChanges::after(state_of(&writer));
        for (index, steps) in revisions.iter().enumerate() {
            let delta = model.advance(&writer, steps);
            let _ = writer.apply(&delta).unwrap();
            changes.absorb(&delta).unwrap();
            if index == cut {
                base = snapshot_of(&writer, &model);
                changes = SnapshotChanges::after(base.header.state.clone());
            }
        }
        let old = base.chunks.iter().flat_map(|chunk| chunk.entries().unwrap());
        let (builder, entries) = changes.merge(&key(), old);
        let merged = build(builder, entries.map(Result::unwrap));
        let direct = snapshot_of(&writer, &model);
        prop_assert_eq!(merged.sha256, direct.sha256);
        prop_assert_eq!(&merged.header, &direct.header);
        prop_assert_eq!(merged.header.digest, writer.digest());
    }
}
