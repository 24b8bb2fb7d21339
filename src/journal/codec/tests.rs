//! Round trips, golden records, limits and damage.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::journal::contract::sample;
use crate::revocation::{Cutoff, Delta, Fingerprint, Minute};

/// How many bytes each sample record has, and their SHA-256: written by an independent encoder made from the document.
const GOLDEN: [(usize, &str); 7] = [
    (108, "af3f0831fdf09ac13ed161d2de964202beaa3b34678a4b78aa8efe0ea2f362f9"),
    (165, "848cea2c0c3feafdc6440c24978fdfed14d69b880f93b8fe4880f256fd71f248"),
    (283, "00e580f3ee8fddf87094f069c03ae0b45f77f714d999b2910687beb16d9de728"),
    (559, "e9d71a472da2ddeae436c21c941f5564a1040b68f9b186462ff29654ee879ee4"),
    (248, "f866ada49e798ed10ab06a17cd52a42436ab6b5c5e18bccb954c2bb0c5654d6d"),
    (137, "2526039eada21b8347ccb540ac733da4fd841b556176f4554e68270f36d76329"),
    (93, "c04ce963ac9db412d6e8ffa975ce839e426534bcdd21e3ad3f7704100d8e1d11"),
];

/// A record small enough to state every byte of it: `docs/design/journal.md` walks through the same one.
const GOLDEN_TICK: &str = concat!(
    "01",                                                               // version
    "0700000000000000",                                                 // revision
    "5e1b3c27aa82996d925e18c489e5525b6bec213fd0ddce920a4aac8c3fa4df61", // chain after
    "01",                                                               // kind: tick
    "2f000000",                                                         // delta length
    "0700000000000000",                                                 // delta: revision
    "00840c2400000000",                                                 // delta: source time
    "00000000",                                                         // delta: floor
    "0000",                                                             // delta: shapes added, retired
    "0000000000000000",                                                 // delta: upserts, removals
    "00",                                                               // delta: policy
    "00000000000000000000000000000000",                                 // delta: digest after
);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_on_disk_do_not_change() {
    let tick = sample::ticking(Revision(7)).encode().unwrap();
    assert_eq!(hex(&tick), GOLDEN_TICK);
    let found: Vec<_> = sample::one_of_each()
        .iter()
        .map(|record| record.encode().unwrap())
        .map(|bytes| (bytes.len(), hex(&Sha256::digest(&bytes))))
        .collect();
    let wanted: Vec<_> = GOLDEN.iter().map(|(length, digest)| (*length, (*digest).to_owned())).collect();
    assert_eq!(found, wanted);
}

#[test]
fn every_kind_of_record_round_trips() {
    for record in sample::one_of_each() {
        assert_eq!(Record::decode(&record.encode().unwrap()), Ok(record));
    }
}

#[test]
fn bytes_cut_short_or_added_to_are_refused() {
    for record in sample::one_of_each() {
        let bytes = record.encode().unwrap();
        for length in 0..bytes.len() {
            assert!(Record::decode(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Record::decode(&longer), Err(RecordError::Decode(DecodeError::Trailing(1))));
    }
}

#[test]
fn an_unknown_version_is_named() {
    let mut bytes = sample::ticking(Revision(1)).encode().unwrap();
    bytes[0] = 2;
    assert_eq!(Record::decode(&bytes), Err(RecordError::Version(2)));
}

#[test]
fn fields_over_their_limits_are_refused_and_named() {
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut record = sample::revoking(Revision(1), 1);
        if let Body::Requests(requests) = &mut record.body {
            change(&mut requests[0]);
        }
        match record.encode().unwrap_err() {
            RecordError::TooLong { what, given, limit, .. } => (what, given, limit),
            other => panic!("{other}"),
        }
    };
    let reason = |length: usize| {
        move |request: &mut Request| {
            request.action = Action::Revoke(vec![Revocation { reason: "r".repeat(length), ..sample::revocation("a") }]);
        }
    };
    assert_eq!(refused(&|request| request.principal = "p".repeat(513)), ("principal", 513, 512));
    assert_eq!(refused(&|request| request.peer = "p".repeat(129)), ("peer", 129, 128));
    assert_eq!(refused(&|request| request.request_id = Some("i".repeat(129))), ("request id", 129, 128));
    assert_eq!(refused(&reason(513)), ("reason", 513, 512));
    let many = |request: &mut Request| request.action = Action::Revoke(vec![sample::revocation("a"); 20_001]);
    assert_eq!(refused(&many), ("record", 20_001, 20_000));
}

#[test]
fn exceptions_must_belong_to_the_mark() {
    let revocation = Revocation { exceptions: Vec::new(), ..sample::full_revocation() };
    let mut out = Vec::new();
    let refused = encode_revocation(&revocation, &mut out);
    assert_eq!(refused, Err(RecordError::Exceptions { spares: 1, exceptions: 0 }));
}

#[test]
fn carried_revocations_round_trip() {
    let carried = Carried {
        id: RevocationId { epoch_prefix: 7, revision: Revision(u64::MAX), index: 3 },
        expiry: Minute::NEVER,
        principal: "root".into(),
        peer: String::new(),
        received_at: UnixMillis(9),
        revocation: sample::full_revocation(),
    };
    let mut bytes = Vec::new();
    encode_carried(&carried, &mut bytes).unwrap();
    assert_eq!(decode_carried(&bytes), Ok(carried));
    (0..bytes.len()).for_each(|length| assert!(decode_carried(&bytes[..length]).is_err()));
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let pairs = prop::collection::btree_map("[a-z.:/]{1,128}", "\\PC{1,200}", 1..=CLAIMS_MAX);
    (pairs, any::<bool>()).prop_map(|(pairs, auth_time)| {
        let tested = if auth_time { TestedClaim::AuthTime } else { TestedClaim::Iat };
        Selector::new(pairs, tested).unwrap()
    })
}

fn any_id() -> impl Strategy<Value = RevocationId> {
    any::<(u32, u64, u32)>().prop_map(|(epoch_prefix, revision, index)| RevocationId {
        epoch_prefix,
        revision: Revision(revision),
        index,
    })
}

fn any_revocation() -> impl Strategy<Value = Revocation> {
    let exceptions = prop::collection::vec((any_selector(), any::<[u64; 2]>()), 0..=EXCEPTIONS_MAX);
    let basis = prop::sample::select(vec![
        ExpiryBasis::Given,
        ExpiryBasis::TokenLifetime,
        ExpiryBasis::SessionLifetime,
        ExpiryBasis::TokenExp,
        ExpiryBasis::Never,
    ]);
    let mark = any::<(u64, u32)>().prop_map(|(cutoff, expiry)| (Cutoff::from_bits(cutoff), Minute::from_bits(expiry)));
    let rest = (basis, "\\PC{0,100}", any::<(bool, bool)>());
    (any_selector(), exceptions, mark, rest).prop_map(
        |(selector, exceptions, (cutoff, expiry), (expiry_basis, reason, (already_expired, merged)))| {
            let spares = exceptions.iter().map(|(s, f)| (s.shape(), Fingerprint(*f))).collect();
            Revocation {
                selector,
                mark: Mark { cutoff, expiry, spares },
                exceptions: exceptions.into_iter().map(|(selector, _)| selector).collect(),
                expiry_basis,
                reason,
                already_expired,
                merged,
            }
        },
    )
}

fn any_action() -> impl Strategy<Value = Action> {
    let undone = prop::collection::vec(any_id(), 0..5);
    let reinstatement = (any_selector(), prop::option::of(any_id()), undone, "\\PC{0,100}")
        .prop_map(|(selector, only, undone, reason)| Reinstatement { selector, only, undone, reason });
    prop_oneof![
        prop::collection::vec(any_revocation(), 0..4).prop_map(Action::Revoke),
        prop::collection::vec(reinstatement, 0..4).prop_map(Action::Reinstate),
    ]
}

fn any_body() -> impl Strategy<Value = Body> {
    let facts = ("\\PC{0,100}", "\\PC{0,30}", prop::option::of("\\PC{0,30}"), any::<[u8; 32]>(), any::<u64>());
    let request = (facts, any_action()).prop_map(|((principal, peer, request_id, body_hash, received_at), action)| {
        let received_at = UnixMillis(received_at);
        Request { principal, peer, request_id, body_hash, received_at, action }
    });
    let extension = (any_id(), any_selector(), any::<u32>()).prop_map(|(id, selector, minute)| Extension {
        id,
        selector,
        expiry: Minute::from_bits(minute),
    });
    prop_oneof![
        Just(Body::Tick),
        ("\\PC{0,50}", any::<u64>())
            .prop_map(|(build, wall_time)| Body::Start { build, wall_time: UnixMillis(wall_time) }),
        "\\PC{0,50}".prop_map(|actor| Body::Policy { policy: Policy::default(), actor }),
        prop::collection::vec(request, 0..4).prop_map(Body::Requests),
        prop::collection::vec(extension, 0..4).prop_map(Body::Extend),
    ]
}

fn any_record() -> impl Strategy<Value = Record> {
    (any::<u64>(), any::<[u8; 32]>(), any_body(), any::<u64>()).prop_map(|(revision, chain, body, time)| {
        let delta = Delta::empty(Revision(revision), UnixMillis(time), Minute::default()).encode();
        Record { revision: Revision(revision), chain_after: Chain(chain), body, delta }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn records_round_trip(record in any_record()) {
        prop_assert_eq!(Record::decode(&record.encode().unwrap()), Ok(record));
    }

    #[test]
    fn mutated_bytes_are_refused_or_are_another_record(
        record in any_record(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = record.encode().unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(other) = Record::decode(&bytes) {
            prop_assert_eq!(other.encode().unwrap(), bytes, "there is one way to write each record");
        }
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..6) {
        let _ = Record::decode(&bytes);
        let _ = decode_carried(&bytes);
        // A plausible beginning, so that the body is reached.
        let begun = [&[VERSION][..], &[0; 40], &[kind], &bytes].concat();
        let _ = Record::decode(&begun);
    }
}
