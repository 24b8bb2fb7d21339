//! The check: which live revocation, if any, reaches a token.
//!
//! All fingerprints of a token are computed and their filter blocks asked for before the first block is tested, so that
//! the cache misses overlap. On the miss path nothing is allocated and no lock is taken.

use super::candidates::Candidates;
use super::{RevocationSet, View};
use crate::revocation::claims::Claims;
use crate::revocation::entry::Exception;
use crate::revocation::filter::Probe;
use crate::revocation::fingerprint::{Fingerprint, FingerprintHasher};
use crate::revocation::policy::LifetimePolicy;
use crate::revocation::position::Revision;
use crate::revocation::selector::TestedClaim;
use crate::revocation::sync::{Ordering, fence};
use crate::revocation::time::{Cutoff, UnixSeconds};
use crate::revocation::verdict::{Hit, UnknownCause};

/// Probes that are under way at once: as many cache misses as a core can have outstanding.
const BATCH: usize = 8;
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
        let mut candidates = Candidates::new(claims);
        for (index, shape) in view.shapes.iter().enumerate() {
            candidates.visit(shape, &mut |fingerprint| search.add(index as u16, fingerprint));
            if search.hit.is_some() {
                break;
            }
        }
        search.test_batch();
        let Search { hit, untimed, .. } = search;
        let Candidates { unseen, crowded, .. } = candidates;
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
    /// Fingerprints that the token has, and their shapes.
    batch: [(Fingerprint, u16); BATCH],
    batched: usize,
    hit: Option<Hit>,
    untimed: bool,
}

impl<'a> Search<'a> {
    #[inline]
    fn new(set: &'a RevocationSet, view: &'a View, claims: &'a Claims, now: UnixSeconds) -> Self {
        Self {
            set,
            view,
            claims,
            now,
            batch: [(Fingerprint::default(), 0); BATCH],
            batched: 0,
            hit: None,
            untimed: false,
        }
    }

    #[inline]
    fn add(&mut self, shape: u16, fingerprint: Fingerprint) {
        if self.batched == BATCH {
            self.test_batch();
        }
        self.batch[self.batched] = (fingerprint, shape);
        self.batched += 1;
    }

    /// Begins all probes before it ends the first. Begun one by one between the hashes they would not overlap: a core
    /// looks only about one hash ahead of a read that it waits for.
    #[inline]
    fn test_batch(&mut self) {
        let filter = &*self.view.filter;
        let batched = std::mem::take(&mut self.batched);
        let mut probes = [Probe::default(); BATCH];
        for (probe, (fingerprint, _)) in probes.iter_mut().zip(&self.batch[..batched]) {
            *probe = filter.begin(*fingerprint);
        }
        for (index, probe) in probes[..batched].iter().enumerate() {
            if filter.end(*probe) && self.hit.is_none() {
                self.confirm(self.batch[index]);
            }
        }
    }

    /// Asks the exact map, and applies cutoff and exceptions.
    #[cold]
    fn confirm(&mut self, (fingerprint, shape): (Fingerprint, u16)) {
        let Some(found) = self.set.map.find(fingerprint) else { return };
        if found.entry.expiry() <= self.view.floor {
            return;
        }
        let shape = self.view.shapes[usize::from(shape)].shape();
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
