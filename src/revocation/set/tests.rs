//! Tests of the set, by what they are about.

mod check;
mod merge;
mod model;
mod properties;
mod races;
mod revisions;
mod union;

use super::*;
use crate::revocation::arbitrary::{NOW, key, minute};
use crate::revocation::{
    Claims, Cutoff, Delta, Entry, Exception, Fingerprint, Selector, TestedClaim, UnixMillis, UnixSeconds,
};

/// An empty set under the default policy.
fn empty() -> (SetWriter, Arc<RevocationSet>) {
    RevocationSet::create(key(), Policy::default(), minute(0))
}

fn selector(pairs: &[(&str, &str)]) -> Selector {
    Selector::new(pairs.iter().copied(), TestedClaim::Iat).unwrap()
}

/// A token issued now that expires in an hour.
fn claims(values: &[(&str, &str)]) -> Claims {
    let mut claims = Claims::new();
    values.iter().for_each(|(name, value)| claims.push(name, value, false));
    (claims.iat, claims.exp) = (Some(NOW), Some(NOW.plus(3600)));
    claims
}

fn forever() -> Entry {
    Entry { cutoff: Cutoff::UNBOUNDED, expiry: Minute::NEVER, exceptions: Vec::new() }
}

/// A revision under construction.
struct Change(Delta);

impl Change {
    /// The revision after the writer's, at its floor.
    fn next(writer: &SetWriter) -> Self {
        Self(Delta::empty(writer.revision().next(), UnixMillis(0), writer.floor()))
    }

    /// Sets an entry, in the place of an earlier change to it.
    fn upsert(mut self, fingerprint: Fingerprint, entry: &Entry) -> Self {
        self = self.forget(fingerprint);
        let at = self.0.upserts.partition_point(|(other, _)| *other < fingerprint);
        self.0.upserts.insert(at, (fingerprint, entry.packed()));
        if !entry.exceptions.is_empty() {
            let at = self.0.upserts[..at].iter().filter(|(_, entry)| entry.has_exceptions()).count();
            self.0.extended.insert(at, entry.exceptions.clone());
        }
        self
    }

    fn remove(mut self, fingerprint: Fingerprint) -> Self {
        self = self.forget(fingerprint);
        let at = self.0.removals.partition_point(|other| *other < fingerprint);
        self.0.removals.insert(at, fingerprint);
        self
    }

    fn floor(mut self, floor: Minute) -> Self {
        self.0.floor = floor;
        self
    }

    fn policy(mut self, policy: Policy) -> Self {
        self.0.policy = Some(policy);
        self
    }

    fn add(mut self, shape: Shape) -> Self {
        self.0.shapes_added.push(shape);
        self.0.shapes_added.sort();
        self
    }

    fn retire(mut self, shape: Shape) -> Self {
        self.0.shapes_retired.push(shape);
        self.0.shapes_retired.sort();
        self
    }

    /// The delta as an authority would state it.
    fn staged(mut self, writer: &SetWriter) -> Delta {
        self.0.digest_after = writer.stage(&self.0).unwrap();
        self.0
    }

    /// Applies it.
    fn install(self, writer: &mut SetWriter) -> Applied {
        let delta = self.staged(writer);
        writer.apply(&delta).unwrap()
    }

    fn forget(mut self, fingerprint: Fingerprint) -> Self {
        if let Ok(at) = self.0.upserts.binary_search_by_key(&fingerprint, |(other, _)| *other) {
            let (_, entry) = self.0.upserts.remove(at);
            if entry.has_exceptions() {
                let at = self.0.upserts[..at].iter().filter(|(_, entry)| entry.has_exceptions()).count();
                self.0.extended.remove(at);
            }
        }
        self.0.removals.retain(|other| *other != fingerprint);
        self
    }
}

/// Revokes selectors for good, in one revision.
fn revoke(writer: &mut SetWriter, selectors: &[Selector]) {
    let mut change = Change::next(writer);
    for selector in selectors {
        let shape = selector.shape();
        if !writer.shapes().contains(&shape) && !change.0.shapes_added.contains(&shape) {
            change = change.add(shape);
        }
        change = change.upsert(key().fingerprint(selector), &forever());
    }
    let _ = change.install(writer);
}
