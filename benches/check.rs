//! The check on the miss path: against one random cache-line read, and against the exact map alone.

mod table;

use std::hint::black_box;
use std::sync::Arc;

use rescind::revocation::exact::ExactMap;
use rescind::revocation::{
    Claims, Cutoff, Delta, Minute, PackedEntry, Policy, RevocationSet, Selector, SetKey, SetWriter, Shape, TestedClaim,
    UnixMillis, UnixSeconds,
};
use table::{Target, fingerprint, mix, nanos, row, seconds};

const TOKENS: usize = 200_000;
const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const FIVE: [&[&str]; 5] = [&["sub"], &["jti"], &["sid"], &["client_id", "sub"], &["tenant_id"]];

fn main() {
    for entries in [100_000u64, 1_000_000, 10_000_000] {
        let one = filled(entries, &FIVE[..1]);
        let tokens = tokens();
        let check_one = check(&one, &tokens);
        drop(one);
        let five = filled(entries, &FIVE);
        let check_five = check(&five, &tokens);
        drop(five);
        let line = cache_line_read(entries as usize * 24);
        let map_five = map_alone(entries, &tokens);
        let largest = entries == 10_000_000;
        row(&format!("{entries} entries, check, 1 shape, miss"), check_one, " ns", Target::None);
        row(&format!("{entries} entries, one random cache-line read, isolated"), line, " ns", Target::None);
        let target = |most| if largest { Target::AtMost(most) } else { Target::None };
        row(&format!("{entries} entries, 1 shape / cache-line read"), check_one / line, "x", target(2.0));
        row(&format!("{entries} entries, check, 5 shapes, miss"), check_five, " ns", Target::None);
        row(&format!("{entries} entries, exact map alone, 5 shapes"), map_five, " ns", Target::None);
        row(&format!("{entries} entries, 5 shapes / map alone"), check_five / map_five, "x", target(0.5));
    }
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
fn filled(entries: u64, names: &[&[&str]]) -> Arc<RevocationSet> {
    let (mut writer, set) = RevocationSet::create(key(), Policy::default(), Minute::default());
    let took = seconds(|| fill(&mut writer, entries, names));
    row(
        &format!("{entries} entries, revisions of 20,000 applied, per second"),
        entries as f64 / took,
        "",
        Target::None,
    );
    set
}

fn fill(writer: &mut SetWriter, entries: u64, names: &[&[&str]]) {
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    for first in (0..entries).step_by(20_000) {
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

/// Parsed tokens of eleven claims, none of them revoked.
fn tokens() -> Vec<Claims> {
    let token = |n: u64| {
        let mut claims = Claims::new();
        claims.push("iss", "https://issuer.example", false);
        claims.push("aud", "api", false);
        claims.push("scope", "read write", false);
        claims.push("azp", "web", false);
        claims.push("header.kid", "2026-01", false);
        claims.push("header.alg", "RS256", false);
        claims.push("sub", &format!("user-{:016x}", mix(n)), false);
        claims.push("jti", &format!("{:016x}{:016x}", mix(n + 1), mix(n + 2)), false);
        claims.push("sid", &format!("{:016x}", mix(n + 3)), false);
        claims.push("client_id", "web-frontend", false);
        claims.push("tenant_id", &format!("t-{:08x}", mix(n + 4) as u32), false);
        (claims.iat, claims.exp) = (Some(NOW), Some(NOW.plus(3600)));
        claims
    };
    (0..TOKENS as u64).map(|n| token(n << 8)).collect()
}

/// One check after the other. A service checks one token per request, so each waits for the last.
fn check(set: &RevocationSet, tokens: &[Claims]) -> f64 {
    let order = order();
    nanos(TOKENS, || {
        let mut hits = 0usize;
        for index in &order {
            let finding = set.check(&tokens[(*index as usize + hits) % TOKENS], NOW);
            hits += usize::from(black_box(finding.hit.is_some()));
        }
    })
}

/// Reads that depend on each other, so that none overlaps the next.
fn cache_line_read(bytes: usize) -> f64 {
    let lines = bytes / 64;
    let array: Vec<[u64; 8]> = (0..lines as u64).map(|n| [mix(n); 8]).collect();
    nanos(TOKENS, || {
        let mut at = 0usize;
        for step in 0..TOKENS as u64 {
            let word = array[at][0] ^ step;
            at = ((word as u32 as u64 * lines as u64) >> 32) as usize;
        }
        black_box(at);
    })
}

/// The same five fingerprints, computed the same way and looked up one after the other.
fn map_alone(entries: u64, tokens: &[Claims]) -> f64 {
    let map = ExactMap::with_capacity(entries as usize);
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
    (0..entries).for_each(|n| _ = map.upsert(fingerprint(n), entry, &[]));
    let key = key();
    let candidates: Vec<Vec<Selector>> = tokens[..20_000].iter().map(selectors).collect();
    nanos(candidates.len(), || {
        let mut hits = 0usize;
        for selectors in &candidates {
            for selector in selectors {
                hits += usize::from(map.find(key.fingerprint(selector)).is_some());
            }
        }
        black_box(hits);
    })
}

fn selectors(claims: &Claims) -> Vec<Selector> {
    let value = |name: &str| claims.value(name).expect("every token has it").to_owned();
    let new = |names: &&[&str]| {
        Selector::new(names.iter().map(|name| (*name, value(name))), TestedClaim::Iat).expect("short values")
    };
    FIVE.iter().map(new).collect()
}

/// A fixed permutation-like order, so that tokens are not read one behind the other.
fn order() -> Vec<u32> {
    (0..TOKENS as u64).map(|n| (mix(n) % TOKENS as u64) as u32).collect()
}
