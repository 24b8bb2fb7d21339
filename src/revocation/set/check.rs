//! The check: which live revocation, if any, reaches a token.
//!
//! All fingerprints of a token are computed and their filter blocks asked for before the first block is tested, so that
//! the cache misses overlap. On the miss path nothing is allocated and no lock is taken.

use std::sync::atomic::{Ordering, fence};

use super::shapes::{PreparedName, PreparedShape};
use super::{RevocationSet, View};
use crate::revocation::claims::Claims;
use crate::revocation::entry::Exception;
use crate::revocation::filter::Probe;
use crate::revocation::fingerprint::{Fingerprint, FingerprintHasher};
use crate::revocation::policy::LifetimePolicy;
use crate::revocation::position::Revision;
use crate::revocation::selector::TestedClaim;
use crate::revocation::time::{Cutoff, UnixSeconds};
use crate::revocation::verdict::{Hit, UnknownCause};

/// The most candidates one token may yield for one active shape; arrays multiply.
pub const SHAPE_CANDIDATES_MAX: usize = 64;
/// The most candidates one check probes. A token that needs more is unknown, unless one of these hits.
pub const CANDIDATES_MAX: usize = 256;

/// Probes that are under way at once: as many cache misses as a core can have outstanding.
const BATCH: usize = 16;
/// How often a check may be overtaken by weakening revisions before it makes the writer wait.
const TRIES_MAX: usize = 3;

/// What the set knows about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Finding {
    /// The revision that the answer holds for: read before the first probe.
    pub revision: Revision,
    /// What revokes the token. Of several, the one of the first shape.
    pub hit: Option<Hit>,
    /// Why a miss does not mean that nothing revokes the token; never beside a hit.
    pub doubt: Option<UnknownCause>,
    /// A miss, and the token may have outlived an entry. A doubt only under [`LifetimePolicy::Enforce`].
    pub beyond_horizon: bool,
    /// The hit rests on a tested time that is missing, or too far in the future to be believed.
    pub untimed: bool,
}

impl RevocationSet {
    /// Looks a token's claims up. `now` tells which token times lie in the future and which tokens have expired.
    pub fn check(&self, claims: &Claims, now: UnixSeconds) -> Finding {
        for _ in 0..TRIES_MAX {
            let before = self.sequence.load(Ordering::Acquire);
            let finding = self.probe(claims, now);
            if finding.hit.is_some() {
                return finding;
            }
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Acquire) == before {
                return finding;
            }
        }
        let _gate = self.gate.read();
        self.probe(claims, now)
    }

    /// One look. The revision first: what is read after it is at least as new.
    fn probe(&self, claims: &Claims, now: UnixSeconds) -> Finding {
        let revision = self.revision();
        let view = self.view.load();
        let mut search = Search::new(self, &view, claims, now);
        for (index, shape) in view.shapes.iter().enumerate() {
            search.handle_shape(index as u16, shape);
            if search.hit.is_some() {
                break;
            }
        }
        search.test_batch();
        let Search { hit, untimed, unseen, crowded, .. } = search;
        let beyond_horizon = hit.is_none() && view.is_beyond_horizon(claims, now);
        let doubt = match (&hit, unseen) {
            (Some(_), _) => None,
            (None, Some(name)) => Some(UnknownCause::Incomplete(name.to_owned())),
            (None, None) if crowded => Some(UnknownCause::TooManyCandidates),
            (None, None) if beyond_horizon && view.policy.lifetime_policy == LifetimePolicy::Enforce => {
                Some(UnknownCause::BeyondHorizon)
            }
            (None, None) => None,
        };
        Finding { revision, hit, doubt, beyond_horizon, untimed }
    }
}

impl View {
    /// Whether the token lives on after an entry that revoked it may have been forgotten.
    fn is_beyond_horizon(&self, claims: &Claims, now: UnixSeconds) -> bool {
        let horizon = self.policy.max_token_lifetime.as_secs().saturating_add(self.policy.expiry_leeway.as_secs());
        if claims.exp.is_some_and(|exp| exp <= now) {
            return false;
        }
        match (claims.time(TestedClaim::Iat, now), claims.exp) {
            (Some(iat), _) => now.0.saturating_sub(iat.0) > horizon,
            (None, Some(exp)) => exp.0 - now.0 > horizon,
            (None, None) => true,
        }
    }
}

/// One look at the set for one token.
struct Search<'a> {
    set: &'a RevocationSet,
    view: &'a View,
    claims: &'a Claims,
    now: UnixSeconds,
    batch: [Candidate; BATCH],
    batched: usize,
    /// How many more candidates may be probed.
    budget: usize,
    hit: Option<Hit>,
    untimed: bool,
    /// The first name that an active shape needs and the caller could not see.
    unseen: Option<&'a str>,
    crowded: bool,
}

/// A fingerprint that the token has under a shape, and its probe.
#[derive(Clone, Copy, Default)]
struct Candidate {
    fingerprint: Fingerprint,
    probe: Probe,
    shape: u16,
}

impl<'a> Search<'a> {
    #[inline]
    fn new(set: &'a RevocationSet, view: &'a View, claims: &'a Claims, now: UnixSeconds) -> Self {
        Self {
            set,
            view,
            claims,
            now,
            batch: [Candidate::default(); BATCH],
            batched: 0,
            budget: CANDIDATES_MAX,
            hit: None,
            untimed: false,
            unseen: None,
            crowded: false,
        }
    }

    /// Begins the probes of every candidate under one shape.
    #[inline]
    fn handle_shape(&mut self, index: u16, shape: &'a PreparedShape) {
        let Some(candidates) = self.count_candidates(shape.names()) else { return };
        let allowed = candidates.min(SHAPE_CANDIDATES_MAX).min(self.budget);
        self.crowded |= allowed < candidates;
        self.budget -= allowed;
        let mut left = allowed;
        if let Some((first, others)) = shape.names().split_first() {
            for value in first.values(self.claims) {
                if left == 0 {
                    break;
                }
                let mut hasher = shape.hasher().clone();
                hasher.value(value.text);
                self.combine(index, others, hasher, &mut left);
            }
        }
    }

    /// How many combinations of values the token has under these names; `None` when none, or when one cannot be seen.
    /// A shape that the visible part already rules out needs nothing of the other.
    #[inline]
    fn count_candidates(&mut self, names: &'a [PreparedName]) -> Option<usize> {
        let mut product = 1usize;
        let mut unseen = None;
        for name in names {
            match name.values(self.claims).count() {
                0 if !self.claims.sees(name.text()) => unseen = unseen.or(Some(name.text())),
                0 => return None,
                values => product = product.saturating_mul(values),
            }
        }
        self.unseen = self.unseen.or(unseen);
        unseen.is_none().then_some(product)
    }

    /// Goes on with every value of the remaining names.
    fn combine(&mut self, shape: u16, names: &'a [PreparedName], hasher: FingerprintHasher, left: &mut usize) {
        let Some((name, others)) = names.split_first() else {
            *left -= 1;
            self.begin(shape, hasher.finish());
            return;
        };
        for value in name.values(self.claims) {
            if *left == 0 {
                return;
            }
            let mut hasher = hasher.clone();
            hasher.pair(name.text(), value.text);
            self.combine(shape, others, hasher, left);
        }
    }

    #[inline]
    fn begin(&mut self, shape: u16, fingerprint: Fingerprint) {
        if self.batched == BATCH {
            self.test_batch();
        }
        self.batch[self.batched] = Candidate { fingerprint, probe: self.view.filter.begin(fingerprint), shape };
        self.batched += 1;
    }

    /// Ends the probes under way; the filter's survivors are looked up in the map.
    #[inline]
    fn test_batch(&mut self) {
        for index in 0..std::mem::take(&mut self.batched) {
            let candidate = self.batch[index];
            if self.view.filter.end(candidate.probe) && self.hit.is_none() {
                self.confirm(candidate);
            }
        }
    }

    /// Asks the exact map, and applies cutoff and exceptions.
    #[cold]
    fn confirm(&mut self, candidate: Candidate) {
        let Some(found) = self.set.map.find(candidate.fingerprint) else { return };
        if found.entry.expiry() <= self.view.floor {
            return;
        }
        let shape = self.view.shapes[usize::from(candidate.shape)].shape();
        let reach = self.reach(found.entry.cutoff(), found.exceptions());
        let time = self.claims.time(shape.tested(), self.now);
        if let Some(cutoff) = reach.filter(|cutoff| cutoff.reaches(time)) {
            self.untimed = time.is_none() && cutoff != Cutoff::UNBOUNDED;
            self.hit = Some(Hit { shape: shape.clone(), cutoff });
        }
    }

    /// The cutoff for this token: the lowest of those that its exceptions leave; `None` when one spares it outright.
    fn reach(&self, cutoff: Cutoff, exceptions: &[Exception]) -> Option<Cutoff> {
        let matching = exceptions.iter().filter(|exception| self.is_spared_by(exception));
        matching.map(|exception| exception.reach).fold(Some(cutoff), Option::min)
    }

    /// Whether every claim of the exception has exactly one value in the token, not in an array, and they match.
    fn is_spared_by(&self, exception: &Exception) -> bool {
        let mut hasher = FingerprintHasher::new(&self.set.key, &exception.shape);
        for name in exception.shape.names() {
            let mut values = self.claims.values(name);
            match (values.next(), values.next()) {
                (Some(value), None) if !value.in_array => hasher.pair(name, value.text),
                _ => return false,
            }
        }
        hasher.finish() == exception.fingerprint
    }
}
