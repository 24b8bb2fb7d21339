//! The core's encodings: one way to write each value.

use rescind::revocation::scalar::{INTEGER_MAX, canonical_integer, canonical_number};
use rescind::revocation::verification::{CLASSES_MAX, ISSUERS_MAX};
use rescind::revocation::{
    CHANGES_MAX, CLAIMS_MAX, Delta, EXCEPTIONS_MAX, Minute, NAME_BYTES_MAX, Policy, Position, Reader, RevocationId,
    RevocationSet, SHAPES_MAX, Selector, SetBuilder, Shape, SnapshotChunk, SnapshotHeader, TestedClaim,
    VALUE_BYTES_MAX, VersionedPolicy,
};

use super::authority::set_key;
use super::input::Input;
use super::note_accepted;

/// The most entries of a snapshot that is loaded: room for them is made at once.
const ENTRIES_MAX: u64 = 10_000;

pub fn delta(bytes: &[u8]) {
    let Ok(delta) = Delta::decode(bytes) else { return };
    note_accepted();
    assert!(delta.upserts.len() <= CHANGES_MAX && delta.removals.len() <= CHANGES_MAX);
    assert!(delta.extended.iter().all(|exceptions| (1..=EXCEPTIONS_MAX).contains(&exceptions.len())));
    assert_eq!(delta.validate(), Ok(()));
    assert_eq!(delta.encode(), bytes, "there is one way to write a delta");
    apply(&delta);
}

/// What stages to a digest applies to that digest, and a second time changes nothing.
fn apply(delta: &Delta) {
    let (mut writer, set) = RevocationSet::create(set_key(), Policy::default(), Minute::from_bits(1));
    let before = set.stamp();
    match writer.stage(delta) {
        Err(_) => {
            assert!(writer.apply(delta).is_err());
            assert_eq!(set.stamp(), before, "what is refused changes nothing");
        }
        Ok(digest_after) => {
            let delta = Delta { digest_after, ..delta.clone() };
            let applied = writer.apply(&delta).expect("it was staged");
            assert_eq!((applied.stamp.digest, set.digest()), (digest_after, digest_after));
            let after = set.stamp();
            let _ = writer.apply(&delta);
            assert_eq!(set.stamp(), after, "replay changes nothing");
        }
    }
    let (mut union, set) = RevocationSet::create(set_key(), Policy::default(), Minute::from_bits(1));
    if union.merge_union(delta).is_ok() {
        let live = delta.upserts.iter().filter(|(_, entry)| entry.expiry() > Minute::from_bits(1)).count();
        assert_eq!(set.entries(), live as u64, "a union takes everything that revokes");
        for (fingerprint, _) in delta.upserts.iter().filter(|(_, entry)| entry.expiry() > Minute::from_bits(1)) {
            assert!(union.entry(*fingerprint).is_some());
        }
    }
}

pub fn verification(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Ok(versioned) = VersionedPolicy::read(&mut reader) else { return };
    note_accepted();
    assert!(versioned.version > 0);
    assert_eq!(versioned.encode(), bytes[..bytes.len() - reader.remaining()], "there is one way to write a policy");
    let (issuers, classes) = (versioned.policy.issuers(), versioned.policy.classes());
    assert!(issuers.len() <= ISSUERS_MAX && classes.len() <= CLASSES_MAX);
    let named = |iss: &String| versioned.policy.issuer(iss).is_some();
    assert!(classes.iter().all(|class| class.issuers.iter().all(named)), "no class names an issuer that is not there");
}

pub fn policy(bytes: &[u8]) {
    if let Ok(policy) = Policy::decode(bytes) {
        note_accepted();
        assert_eq!(policy.encode(), bytes);
    }
}

/// A header behind its length, then chunks behind theirs; the SHA-256 is never right, so nothing may come of it.
pub fn snapshot(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let header_bytes = input.long_block();
    let Ok(header) = SnapshotHeader::decode(header_bytes) else { return };
    assert_eq!(header.encode(), header_bytes, "there is one way to write a header");
    assert!(header.state.shapes.len() <= SHAPES_MAX && u64::from(header.chunks) <= header.entries);
    let entries = header.entries;
    let Ok(mut builder) = SetBuilder::begin(set_key(), header, ENTRIES_MAX) else { return };
    let mut index = 0;
    while !input.is_empty() {
        let chunk = SnapshotChunk::new(index, input.long_block().to_vec().into());
        if let Ok(read) = chunk.entries() {
            for entry in read.flatten() {
                assert!(entry.entry.has_exceptions() != entry.exceptions.is_empty());
                assert!(entry.exceptions.len() <= EXCEPTIONS_MAX);
            }
        }
        if builder.load(&chunk).is_err() {
            return;
        }
        assert!(builder.loaded() <= entries, "never more than the header states");
        index += 1;
    }
    note_accepted();
    assert!(builder.finish([0; 32]).is_err());
}

pub fn shape(bytes: &[u8]) {
    let mut rest = bytes;
    let Ok(shape) = Shape::decode(&mut rest) else { return };
    note_accepted();
    assert!((1..=CLAIMS_MAX).contains(&shape.names().len()));
    assert!(shape.names().all(|name| (1..=NAME_BYTES_MAX).contains(&name.len())));
    let mut again = Vec::new();
    shape.encode(&mut again);
    assert_eq!(again, bytes[..bytes.len() - rest.len()], "there is one way to write a shape");
}

/// Pairs as blocks; their order must not matter.
pub fn selector(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let tested = if input.coin() { TestedClaim::Iat } else { TestedClaim::AuthTime };
    let mut pairs = Vec::new();
    while !input.is_empty() {
        let name = String::from_utf8_lossy(input.block()).into_owned();
        pairs.push((name, String::from_utf8_lossy(input.long_block()).into_owned()));
    }
    let selector = Selector::new(pairs.clone(), tested);
    pairs.reverse();
    let reversed = Selector::new(pairs.clone(), tested);
    assert_eq!(selector.is_ok(), reversed.is_ok());
    let (Ok(selector), Ok(reversed)) = (selector, reversed) else { return };
    note_accepted();
    assert_eq!(set_key().fingerprint(&selector), set_key().fingerprint(&reversed));
    assert!((1..=CLAIMS_MAX).contains(&selector.pairs().len()));
    assert!(selector.pairs().all(|(_, value)| (1..=VALUE_BYTES_MAX).contains(&value.len())));
    for (name, value) in &pairs {
        assert_eq!(selector.value(name), Some(value.as_str()));
    }
    let names = Shape::new(pairs.iter().map(|(name, _)| name.as_str()), tested);
    assert_eq!(names.as_ref(), Ok(&selector.shape()));
    let others = Selector::new(pairs.iter().map(|(name, _)| (name.as_str(), "x")), tested).expect("names as before");
    assert_eq!(format!("{selector:?}"), format!("{others:?}"), "what is shown does not depend on values");
}

pub fn scalar(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let integer = canonical_integer(text);
    assert_eq!(canonical_number(text), integer.map(|integer| integer.to_string()));
    let Some(integer) = integer else { return };
    note_accepted();
    assert!(integer.unsigned_abs() <= INTEGER_MAX);
    assert_eq!(canonical_integer(&integer.to_string()), Some(integer), "the canonical text is its own");
    // A double holds every integer of this range, so another reader must come to the same one.
    if let Ok(double) = text.parse::<f64>() {
        assert_eq!(double, integer as f64, "{text}");
    }
}

pub fn position(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(position) = text.parse::<Position>() {
        note_accepted();
        assert_eq!(position.to_string().parse(), Ok(position));
    }
    if let Ok(id) = text.parse::<RevocationId>() {
        note_accepted();
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
