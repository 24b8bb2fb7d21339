//! Active shapes, made ready for the check: everything about them that no token changes is computed once.

use std::sync::Arc;

use crate::revocation::claims::{Claims, Value, name_hash};
use crate::revocation::fingerprint::{FingerprintHasher, SetKey};
use crate::revocation::selector::Shape;

/// A shape with the hash of its constant beginning: domain, pair count and first name.
pub(super) struct PreparedShape {
    shape: Shape,
    hasher: FingerprintHasher,
    names: Box<[PreparedName]>,
}

/// A claim name with its look-up hash.
pub(super) struct PreparedName {
    text: Box<str>,
    hash: u32,
}

impl PreparedShape {
    pub(super) fn new(key: &SetKey, shape: Shape) -> Self {
        let names: Box<[_]> =
            shape.names().map(|name| PreparedName { text: name.into(), hash: name_hash(name) }).collect();
        let mut hasher = FingerprintHasher::new(key, &shape);
        if let Some(first) = names.first() {
            hasher.name(&first.text);
        }
        Self { shape, hasher, names }
    }

    pub(super) fn prepare_all(key: &SetKey, shapes: &[Shape]) -> Arc<[Self]> {
        shapes.iter().map(|shape| Self::new(key, shape.clone())).collect()
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The first name, already absorbed by [`PreparedShape::hasher`], and the others.
    #[inline]
    pub(super) fn names(&self) -> &[PreparedName] {
        &self.names
    }

    /// The hash so far; the value of the first name comes next.
    #[inline]
    pub(super) fn hasher(&self) -> &FingerprintHasher {
        &self.hasher
    }
}

impl PreparedName {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The values that a token has under this name.
    #[inline]
    pub(super) fn values<'a>(&'a self, claims: &'a Claims) -> impl Iterator<Item = Value<'a>> + Clone {
        claims.values_hashed(&self.text, self.hash)
    }
}
