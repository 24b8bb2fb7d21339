//! The fingerprints that a token has: for each active shape, every combination of its values.

use super::RevocationSet;
use super::shapes::{PreparedName, PreparedShape};
use crate::revocation::claims::Claims;
use crate::revocation::fingerprint::{Fingerprint, FingerprintHasher};
use crate::revocation::selector::Shape;

/// The most candidates one token may yield for one active shape; arrays multiply.
pub const SHAPE_CANDIDATES_MAX: usize = 64;
/// The most candidates one check probes. A token that needs more is unknown, unless one of these hits.
pub const CANDIDATES_MAX: usize = 256;

/// Enumerates a token's candidates, shape by shape, within the limits.
pub(super) struct Candidates<'a> {
    claims: &'a Claims,
    /// How many more there may be.
    budget: usize,
    /// The first name that an active shape needs and the caller could not see.
    pub(super) unseen: Option<&'a str>,
    /// Whether there were more than the limits allow.
    pub(super) crowded: bool,
}

impl RevocationSet {
    /// Calls `visit` with every fingerprint that a check of these claims probes.
    pub fn for_each_candidate(&self, claims: &Claims, mut visit: impl FnMut(&Shape, Fingerprint)) {
        let view = self.view.load();
        let mut candidates = Candidates::new(claims);
        for shape in view.shapes.iter() {
            candidates.visit(shape, &mut |fingerprint| visit(shape.shape(), fingerprint));
        }
    }
}

impl<'a> Candidates<'a> {
    #[inline]
    pub(super) fn new(claims: &'a Claims) -> Self {
        Self { claims, budget: CANDIDATES_MAX, unseen: None, crowded: false }
    }

    /// The candidates under the next shape.
    #[inline]
    pub(super) fn visit(&mut self, shape: &'a PreparedShape, visit: &mut impl FnMut(Fingerprint)) {
        match shape.names() {
            [only] => self.visit_values(only, shape, visit),
            names => self.visit_combinations(names, shape, visit),
        }
    }

    /// Most shapes name one claim and most claims have one value: found and hashed in one pass.
    #[inline]
    fn visit_values(&mut self, name: &'a PreparedName, shape: &PreparedShape, visit: &mut impl FnMut(Fingerprint)) {
        let allowed = SHAPE_CANDIDATES_MAX.min(self.budget);
        let (mut visited, mut is_present) = (0, false);
        for value in name.values(self.claims) {
            is_present = true;
            if visited == allowed {
                self.crowded = true;
                break;
            }
            visited += 1;
            let mut hasher = shape.hasher().clone();
            hasher.value(value.text);
            visit(hasher.finish());
        }
        self.budget -= visited;
        if !is_present && !self.claims.sees(name.text()) {
            self.unseen = self.unseen.or(Some(name.text()));
        }
    }

    fn visit_combinations(
        &mut self,
        names: &'a [PreparedName],
        shape: &PreparedShape,
        visit: &mut impl FnMut(Fingerprint),
    ) {
        let Some(all) = self.count(names) else { return };
        let mut left = all.min(SHAPE_CANDIDATES_MAX).min(self.budget);
        self.crowded |= left < all;
        self.budget -= left;
        let Some((first, others)) = names.split_first() else { return };
        for value in first.values(self.claims) {
            if left == 0 {
                return;
            }
            let mut hasher = shape.hasher().clone();
            hasher.value(value.text);
            self.combine(others, &hasher, &mut left, visit);
        }
    }

    /// How many combinations of values the token has under these names; `None` when none, or when one cannot be seen.
    /// A shape that the visible part already rules out needs nothing of the other.
    #[inline]
    fn count(&mut self, names: &'a [PreparedName]) -> Option<usize> {
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
    fn combine(
        &self,
        names: &[PreparedName],
        hasher: &FingerprintHasher,
        left: &mut usize,
        visit: &mut impl FnMut(Fingerprint),
    ) {
        let Some((name, others)) = names.split_first() else {
            *left -= 1;
            return visit(hasher.clone().finish());
        };
        for value in name.values(self.claims) {
            if *left == 0 {
                return;
            }
            let mut hasher = hasher.clone();
            hasher.pair(name.text(), value.text);
            self.combine(others, &hasher, left, visit);
        }
    }
}
