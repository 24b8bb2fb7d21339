//! Checks that find nothing allocate nothing: neither on parsed claims nor, once its buffers have grown, on raw tokens.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]

use allocation_counter::measure;
use rescind::revocation::{
    Claims, Cutoff, Delta, Fingerprint, Minute, PackedEntry, Policy, Revision, RevocationSet, SetKey, Shape,
    TestedClaim, UnixMillis, UnixSeconds,
};
use rescind::token::{TokenKind, TokenParser};

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const TOKEN: &str = concat!(
    "eyJhbGciOiJub25lIn0.",
    "eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJqdGkiOiJhIiwic3ViIjoiYWxpY2UiLCJyb2xlcyI6WyJhIiwiYiJdLCJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMzYwMH0",
    ".",
);

/// A set with five active shapes and a thousand entries, none of which the token matches.
fn set() -> std::sync::Arc<RevocationSet> {
    let (mut writer, set) = RevocationSet::create(SetKey::new([3; 16]), Policy::default(), Minute::default());
    let mut delta = Delta::empty(Revision(1), UnixMillis(0), Minute::default());
    delta.shapes_added = [&["jti"][..], &["sub"], &["client_id", "sub"], &["roles"], &["token_sha256"]]
        .map(|names| Shape::new(names.iter().copied(), TestedClaim::Iat).unwrap())
        .to_vec();
    delta.shapes_added.sort_unstable();
    delta.upserts =
        (0..1000).map(|n| (Fingerprint([n, n]), PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false))).collect();
    delta.digest_after = writer.stage(&delta).unwrap();
    if let Some(rebuild) = writer.apply(&delta).unwrap().rebuild {
        rebuild.run();
    }
    set
}

#[test]
fn a_check_that_finds_nothing_allocates_nothing() {
    let set = set();
    let (mut parser, mut claims) = (TokenParser::new(), Claims::new());
    let mut look = || {
        parser.parse_token(&mut claims, TOKEN.as_bytes(), TokenKind::Detect).unwrap();
        assert_eq!(set.check(&claims, NOW).hit, None);
    };
    look();
    let allocations = measure(|| (0..100).for_each(|_| look())).count_total;
    assert_eq!(allocations, 0);
}
