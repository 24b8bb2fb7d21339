//! Small universes for property tests: few claims and values, so that selectors and tokens meet often.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::verification::{RouteClass, VerificationPolicy, VersionedPolicy};
use super::{Claims, Cutoff, Entry, Exception, Minute, Selector, SetKey, Shape, TestedClaim, UnixSeconds};

/// The time of every check, in seconds; cutoffs and token times lie around it.
pub(super) const NOW: UnixSeconds = UnixSeconds(1_000_000);
/// The first floor, in minutes; expiries lie shortly after it.
const FLOOR: u32 = 10_000;

pub(super) fn key() -> SetKey {
    SetKey::new(*b"0123456789abcdef")
}

pub(super) fn minute(offset: u32) -> Minute {
    Minute::at(FLOOR + offset).unwrap()
}

pub(super) fn cutoff(offset: u64) -> Cutoff {
    Cutoff::at(UnixSeconds(NOW.0 - 100 + offset)).unwrap()
}

/// Every selector that the tests revoke, over six shapes.
pub(super) fn selectors() -> Vec<Selector> {
    let new = |pairs: &[(&str, &str)], tested| Selector::new(pairs.iter().copied(), tested).unwrap();
    let mut all = Vec::new();
    for sub in ["a", "b", "c"] {
        all.push(new(&[("sub", sub)], TestedClaim::Iat));
        all.push(new(&[("sub", sub)], TestedClaim::AuthTime));
        all.push(new(&[("jti", sub), ("iss", "i")], TestedClaim::Iat));
        for client in ["x", "y"] {
            all.push(new(&[("sub", sub), ("client_id", client)], TestedClaim::Iat));
        }
    }
    all.push(new(&[("header.kid", "k")], TestedClaim::Iat));
    all.push(new(&[("group", "x")], TestedClaim::AuthTime));
    all
}

/// Every selector that the tests spare.
pub(super) fn spared() -> Vec<Selector> {
    let new = |pairs: &[(&str, &str)]| Selector::new(pairs.iter().copied(), TestedClaim::Iat).unwrap();
    vec![new(&[("sid", "1")]), new(&[("sid", "2")]), new(&[("client_id", "x")]), new(&[("sid", "1"), ("group", "x")])]
}

/// A cutoff among few, sometimes unbounded.
pub(super) fn any_cutoff() -> impl Strategy<Value = Cutoff> {
    prop_oneof![6 => (0..6u64).prop_map(|offset| cutoff(offset * 10)), 1 => Just(Cutoff::UNBOUNDED)]
}

/// A minute shortly after the first floor, sometimes never.
pub(super) fn any_expiry() -> impl Strategy<Value = Minute> {
    prop_oneof![6 => (0..12u32).prop_map(minute), 1 => Just(Minute::NEVER)]
}

/// An entry with up to four exceptions.
pub(super) fn any_entry() -> impl Strategy<Value = Entry> {
    let reaches = vec(prop::option::of(any_cutoff()), 4);
    (any_cutoff(), any_expiry(), subsequence(spared(), 0..=4), reaches).prop_map(|(cutoff, expiry, spared, reaches)| {
        let mut exceptions: Vec<Exception> = spared
            .iter()
            .zip(reaches)
            .map(|(selector, reach)| Exception {
                shape: selector.shape(),
                fingerprint: key().fingerprint(selector),
                reach,
            })
            .filter(|exception| exception.reach < Some(cutoff))
            .collect();
        exceptions.sort();
        Entry { cutoff, expiry, exceptions }
    })
}

/// A token over the same claims and values as the selectors; a claim may have none, one, or several values.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) values: Vec<(&'static str, &'static str, bool)>,
    pub(super) iat: Option<u64>,
    pub(super) auth_time: Option<u64>,
}

pub(super) fn any_token() -> impl Strategy<Value = Token> {
    let claim = |name: &'static str, values: &[&'static str]| {
        prop_oneof![
            2 => select(values.to_vec()).prop_map(move |value| vec![(name, value, false)]),
            1 => subsequence(values.to_vec(), 0..=values.len())
                .prop_map(move |values| values.into_iter().map(|value| (name, value, true)).collect::<Vec<_>>()),
        ]
    };
    let values = (
        claim("sub", &["a", "b", "c", "z"]),
        claim("jti", &["a", "b", "c", "z"]),
        claim("iss", &["i", "j"]),
        claim("client_id", &["x", "y"]),
        claim("header.kid", &["k", "l"]),
        claim("group", &["x", "y"]),
        claim("sid", &["1", "2"]),
    );
    let time = || prop::option::of(prop_oneof![8 => NOW.0 - 110..NOW.0 - 30, 1 => Just(NOW.0 + 601)]);
    (values, time(), time()).prop_map(|((a, b, c, d, e, f, g), iat, auth_time)| Token {
        values: [a, b, c, d, e, f, g].concat(),
        iat,
        auth_time,
    })
}

impl Token {
    pub(super) fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        self.values.iter().for_each(|(name, value, in_array)| claims.push(name, value, *in_array));
        (claims.iat, claims.auth_time) = (self.iat.map(UnixSeconds), self.auth_time.map(UnixSeconds));
        claims
    }

    /// Whether it has every pair of a selector.
    pub(super) fn matches(&self, selector: &Selector) -> bool {
        selector.pairs().all(|pair| self.values.iter().any(|(name, value, _)| (*name, *value) == pair))
    }

    /// Whether it has every pair of a selector as the only and scalar value of its name.
    pub(super) fn matches_scalar(&self, selector: &Selector) -> bool {
        selector.pairs().all(|pair| {
            let mut values = self.values.iter().filter(|(name, ..)| *name == pair.0);
            values.next().is_some_and(|(_, value, in_array)| *value == pair.1 && !in_array) && values.next().is_none()
        })
    }

    /// The time that a shape tests, or none.
    pub(super) fn time(&self, tested: TestedClaim) -> Option<UnixSeconds> {
        let time = if tested == TestedClaim::Iat { self.iat } else { self.auth_time };
        time.filter(|time| *time <= NOW.0 + 600).map(UnixSeconds)
    }
}

pub(super) fn any_shape() -> impl Strategy<Value = Shape> {
    select(selectors()).prop_map(|selector| selector.shape())
}

/// A verification policy with one class of routes, which `number` names.
pub(super) fn verification(version: u64, number: u8) -> VersionedPolicy {
    let name = format!("class-{number}");
    let class = RouteClass { name, issuers: vec![], audiences: vec![], scopes: vec![], claims: vec![] };
    VersionedPolicy { version, policy: VerificationPolicy::new(vec![], vec![class]).unwrap() }
}

pub(super) fn any_verification() -> impl Strategy<Value = VersionedPolicy> {
    (1..u64::MAX, any::<u8>()).prop_map(|(version, number)| verification(version, number))
}
