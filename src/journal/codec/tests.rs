//! Round trips, golden records, limits and damage.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::journal::CredentialAction;
use crate::journal::contract::sample;
use crate::revocation::grant::Roles;
use crate::revocation::ports::{AppliedPolicy, Credential, CredentialHash, CredentialId};
use crate::revocation::{Cutoff, Delta, Fingerprint, Grant, Minute, UnixSeconds};

/// How many bytes each sample record has, and their SHA-256: written by an independent encoder made from the document.
const GOLDEN: [(usize, &str); 12] = [
    (108, "af3f0831fdf09ac13ed161d2de964202beaa3b34678a4b78aa8efe0ea2f362f9"),
    (165, "848cea2c0c3feafdc6440c24978fdfed14d69b880f93b8fe4880f256fd71f248"),
    (283, "00e580f3ee8fddf87094f069c03ae0b45f77f714d999b2910687beb16d9de728"),
    (559, "e9d71a472da2ddeae436c21c941f5564a1040b68f9b186462ff29654ee879ee4"),
    (248, "f866ada49e798ed10ab06a17cd52a42436ab6b5c5e18bccb954c2bb0c5654d6d"),
    (137, "2526039eada21b8347ccb540ac733da4fd841b556176f4554e68270f36d76329"),
    (93, "c04ce963ac9db412d6e8ffa975ce839e426534bcdd21e3ad3f7704100d8e1d11"),
    (176, "aa6200de1d5ce9bfb1f13b039b84d7b4dad74072032b539b12fdc8c46c8e80a0"),
    (234, "5949381f1a5317c1a53be1904ccf69faf2486f960134ae71cc6cc7d04a36b9ed"),
    (195, "ff93f03c7fd3834ffa5f8eca8f19e61d318526b74565ab7aecf1a8522ac62b0c"),
    (142, "b8753682104352bec28224ea4afbaa6b4ed6a74cf6a23c7caf97359bdee64725"),
    (247, "86af81d75046a826cafca43885777d3c201a6eb8c52d1fbc1ae18f08f0e378de"),
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
    for unknown in [0, 4] {
        bytes[0] = unknown;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Version(unknown)));
    }
    for later in [2, 3] {
        bytes[0] = later;
        assert!(Record::decode(&bytes).is_err(), "there is one way to write each record");
    }
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
        ("\\PC{0,50}", "\\PC{0,30}").prop_map(|(actor, peer)| Body::Policy { policy: Policy::default(), actor, peer }),
        prop::collection::vec(request, 0..4).prop_map(Body::Requests),
        prop::collection::vec(extension, 0..4).prop_map(Body::Extend),
        any_credential_change().prop_map(Body::Credentials),
        any_applied_policy().prop_map(|applied| Body::Verification(Arc::new(applied))),
    ]
}

fn any_applied_policy() -> impl Strategy<Value = AppliedPolicy> {
    let texts = ("\\PC{0,30}", "\\PC{0,30}", "\\PC{0,30}", "\\PC{0,300}");
    (texts, any::<u64>(), any::<Option<u64>>(), 1..u64::MAX).prop_map(|(texts, applied_at, reverts_to, version)| {
        let (principal, peer, reason, source) = texts;
        let (applied_at, reverts_to) = (UnixMillis(applied_at), reverts_to.filter(|version| *version > 0));
        let sample = sample::applied_policy(Revision(1), version);
        AppliedPolicy { principal, peer, reason, source, applied_at, reverts_to, ..sample }
    })
}

fn any_credential_change() -> impl Strategy<Value = CredentialChange> {
    let names = || prop::option::of(prop::collection::vec("\\PC{1,40}", 0..4));
    let grant =
        (0u16..128, names(), names(), any::<Option<u32>>()).prop_map(|(roles, issuers, claims, writes_per_minute)| {
            Grant { roles: Roles::from_bits(roles).unwrap(), issuers, claims, writes_per_minute }
        });
    let secret = (any::<[u8; 8]>(), any::<[u8; 16]>(), any::<[u8; 32]>(), any::<Option<u64>>());
    let created = ("\\PC{1,30}", grant, secret);
    let action = prop_oneof![
        created.prop_map(Ok),
        prop::collection::vec(any::<[u8; 8]>().prop_map(CredentialId), 0..5).prop_map(Err),
    ];
    let facts = ("\\PC{0,30}", "\\PC{0,30}", any::<u64>().prop_map(UnixMillis));
    (facts, action).prop_map(|((principal, peer, received_at), action)| {
        let action = match action {
            Ok((name, grant, (id, salt, digest, expires))) => CredentialAction::Create(Box::new(Credential {
                id: CredentialId(id),
                name,
                grant,
                hash: CredentialHash { salt, digest },
                expires_at: expires.map(UnixSeconds),
                created_at: received_at,
                created_by: principal.clone(),
            })),
            Err(ids) => CredentialAction::Revoke(ids),
        };
        CredentialChange { principal, peer, received_at, action }
    })
}

#[test]
fn a_credential_of_another_record_is_refused() {
    let mut credential = sample::credential(Revision(1), 3);
    let encode = |credential: &Credential| {
        let action = CredentialAction::Create(Box::new(credential.clone()));
        sample::changing_credentials(Revision(1), action).encode()
    };
    assert!(encode(&credential).is_ok());
    credential.created_by = "somebody else".into();
    assert_eq!(encode(&credential), Err(RecordError::ForeignCredential));
    let mut long = sample::credential(Revision(1), 3);
    long.grant.claims = Some(vec!["c".into(); 33]);
    assert!(matches!(encode(&long), Err(RecordError::TooLong { what: "grant", given: 33, limit: 32, .. })));
    long = Credential { name: "n".repeat(129), ..sample::credential(Revision(1), 3) };
    assert!(matches!(encode(&long), Err(RecordError::TooLong { what: "credential name", .. })));
}

#[test]
fn a_policy_text_over_its_limit_is_refused() {
    let encode = |length: usize| {
        let applied = AppliedPolicy { source: "x".repeat(length), ..sample::applied_policy(Revision(1), 1) };
        sample::record(Revision(1), Body::Verification(Arc::new(applied))).encode()
    };
    assert!(encode(128 * 1024).is_ok());
    let refused = encode(128 * 1024 + 1).unwrap_err();
    assert_eq!(refused.to_string(), "policy text has 131073 bytes, at most 131072 fit");
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
    fn no_bytes_make_the_decoders_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..8) {
        let _ = Record::decode(&bytes);
        let _ = decode_carried(&bytes);
        // A plausible beginning, so that the body is reached.
        for version in [VERSION, VERSION_2, VERSION_3] {
            let begun = [&[version][..], &[0; 40], &[kind], &bytes].concat();
            let _ = Record::decode(&begun);
        }
    }
}
