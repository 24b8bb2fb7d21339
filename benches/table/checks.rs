//! A filled set, and how long a check in it takes.

use std::hint::black_box;
use std::sync::Arc;

use rescind::revocation::{
    Claims, Cutoff, Delta, Minute, PackedEntry, Policy, RevocationSet, SetKey, SetWriter, Shape, TestedClaim,
    UnixMillis, UnixSeconds,
};

use super::{Target, fingerprint, mix, nanos, row, seconds};

/// How many tokens a round checks.
pub(crate) const TOKENS: usize = 500_000;
/// Five shapes, one of them of two claims.
pub(crate) const FIVE: [&[&str]; 5] = [&["sub"], &["jti"], &["sid"], &["client_id", "sub"], &["tenant_id"]];
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

/// Nanoseconds of one check, one after the other.
pub(crate) fn check(set: &RevocationSet) -> f64 {
    each_token(|claims| set.check(claims, NOW).hit.is_some())
}

fn key() -> SetKey {
    SetKey::new(*b"0123456789abcdef")
}

fn shapes(names: &[&[&str]]) -> Vec<Shape> {
    let new = |names: &&[&str]| Shape::new(names.iter().copied(), TestedClaim::Iat).expect("few short names");
    let mut shapes: Vec<Shape> = names.iter().map(new).collect();
    shapes.sort();
    shapes
}

/// A set of `entries` that no token matches.
pub(crate) fn filled(entries: u64, names: &[&[&str]]) -> Arc<RevocationSet> {
    let (mut writer, set) = RevocationSet::create(key(), Policy::default(), Minute::default());
    let took = seconds(|| fill(&mut writer, entries, names));
    if entries > 0 {
        let what = format!("{entries} entries, applied per second in revisions of 20,000");
        row(&what, entries as f64 / took, "", Target::None);
    }
    set
}

fn fill(writer: &mut SetWriter, entries: u64, names: &[&[&str]]) {
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    for first in (0..entries.max(1)).step_by(20_000) {
        let mut delta = Delta::empty(writer.revision().next(), UnixMillis(0), Minute::default());
        if first == 0 {
            delta.shapes_added = shapes(names);
        }
        delta.upserts = (first..(first + 20_000).min(entries)).map(|n| (fingerprint(n), entry)).collect();
        delta.upserts.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        delta.digest_after = writer.stage(&delta).expect("a well-formed delta");
        if let Some(rebuild) = writer.apply(&delta).expect("the digest just staged").rebuild {
            rebuild.run();
        }
    }
}

/// Parses token number `n` into `claims`: eleven claims, none of them revoked.
fn parse(n: u64, claims: &mut Claims) {
    claims.clear();
    let words = mix(n).to_le_bytes();
    let mut digits = *b"user-0000000000000000";
    for (pair, byte) in digits[5..].chunks_exact_mut(2).zip(words) {
        (pair[0], pair[1]) = (b'a' + (byte >> 4), b'a' + (byte & 15));
    }
    let text = |range: std::ops::Range<usize>| std::str::from_utf8(&digits[range]).expect("letters");
    claims.push("iss", "https://issuer.example", false);
    claims.push("aud", "api", false);
    claims.push("scope", "read write", false);
    claims.push("azp", "web", false);
    claims.push("header.kid", "2026-01", false);
    claims.push("header.alg", "RS256", false);
    claims.push("sub", text(0..21), false);
    claims.push("jti", text(5..21), false);
    claims.push("sid", text(7..21), false);
    claims.push("client_id", "web-frontend", false);
    claims.push("tenant_id", text(9..21), false);
    (claims.iat, claims.exp) = (Some(NOW), Some(NOW.plus(3600)));
}

/// Nanoseconds that `check` takes on a token just parsed, as a request brings one: parsing is measured alone and taken
/// off. Each round has other tokens, so that none finds what it reads in the cache.
pub(crate) fn each_token(check: impl Fn(&Claims) -> bool) -> f64 {
    let run = |check: &dyn Fn(&Claims) -> bool| {
        let mut claims = Claims::new();
        let mut n = 0u64;
        nanos(TOKENS, || {
            for _ in 0..TOKENS {
                // The next token depends on this answer: checks follow each other, they do not overlap.
                n += 1 + u64::from(check(&claims));
                parse(n, &mut claims);
            }
        })
    };
    run(&check) - run(&|claims| black_box(claims).iat.is_none() && claims.exp.is_some())
}
