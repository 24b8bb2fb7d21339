//! How many live entries each shape has, by expiry minute: what makes a shape active, and what retires it.

use std::collections::BTreeMap;

use crate::revocation::{Minute, Shape};

/// The live entries of every active shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShapeTable {
    shapes: BTreeMap<Shape, Uses>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Uses {
    live: u64,
    by_expiry: BTreeMap<Minute, u64>,
}

impl Uses {
    fn live_beyond(&self, floor: Minute) -> u64 {
        self.live - self.by_expiry.range(..=floor).map(|(_, count)| count).sum::<u64>()
    }
}

/// Entries that come and go, by shape and expiry minute.
#[derive(Clone, Debug, Default)]
pub struct ShapeChanges {
    changes: BTreeMap<Shape, BTreeMap<Minute, i64>>,
}

impl ShapeChanges {
    /// An entry of `shape` moves from one expiry to another; `None` means it was not, or is no longer, there.
    pub fn entry_moves(&mut self, shape: &Shape, from: Option<Minute>, to: Option<Minute>) {
        if from == to {
            return;
        }
        let minutes = match self.changes.get_mut(shape) {
            Some(minutes) => minutes,
            None => self.changes.entry(shape.clone()).or_default(),
        };
        if let Some(from) = from {
            *minutes.entry(from).or_default() -= 1;
        }
        if let Some(to) = to {
            *minutes.entry(to).or_default() += 1;
        }
    }
}

impl ShapeTable {
    /// The active shapes, sorted.
    pub fn active(&self) -> impl ExactSizeIterator<Item = &Shape> {
        self.shapes.keys()
    }

    /// Whether `shape` has live entries.
    #[must_use]
    pub fn is_active(&self, shape: &Shape) -> bool {
        self.shapes.contains_key(shape)
    }

    /// Whether `shape` has entries beyond `floor`.
    #[must_use]
    pub fn is_active_beyond(&self, shape: &Shape, floor: Minute) -> bool {
        self.shapes.get(shape).is_some_and(|uses| uses.live_beyond(floor) > 0)
    }

    /// The shapes that have entries beyond `floor`.
    pub fn active_beyond(&self, floor: Minute) -> impl Iterator<Item = &Shape> {
        self.shapes.iter().filter(move |(_, uses)| uses.live_beyond(floor) > 0).map(|(shape, _)| shape)
    }

    /// How many entries are live beyond `floor`.
    #[must_use]
    pub fn live_beyond(&self, floor: Minute) -> u64 {
        self.shapes.values().map(|uses| uses.live_beyond(floor)).sum()
    }

    /// Which shapes become active, and which have no live entry left, once `changes` are made and the floor is `floor`.
    #[must_use]
    pub fn preview(&self, changes: &ShapeChanges, floor: Minute) -> (Vec<Shape>, Vec<Shape>) {
        let moved = |shape: &Shape| -> i64 {
            changes.changes.get(shape).map_or(0, |minutes| {
                minutes.iter().filter(|(minute, _)| **minute > floor).map(|(_, count)| count).sum()
            })
        };
        let added =
            changes.changes.keys().filter(|shape| !self.is_active(shape) && moved(shape) > 0).cloned().collect();
        let retired = self
            .shapes
            .iter()
            .filter(|(shape, uses)| uses.live_beyond(floor) as i64 + moved(shape) == 0)
            .map(|(shape, _)| shape.clone())
            .collect();
        (added, retired)
    }

    /// Makes `changes` and moves the floor.
    pub fn apply(&mut self, changes: &ShapeChanges, floor: Minute) {
        for (shape, minutes) in &changes.changes {
            let uses = self.shapes.entry(shape.clone()).or_default();
            for (minute, count) in minutes {
                let slot = uses.by_expiry.entry(*minute).or_default();
                *slot = slot.saturating_add_signed(*count);
                uses.live = uses.live.saturating_add_signed(*count);
            }
        }
        self.shapes.retain(|_, uses| {
            let kept = uses.by_expiry.split_off(&floor);
            uses.live -= uses.by_expiry.values().sum::<u64>();
            uses.by_expiry = kept;
            uses.live -= uses.by_expiry.remove(&floor).unwrap_or(0);
            uses.by_expiry.retain(|_, count| *count > 0);
            uses.live > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revocation::TestedClaim;

    fn shape(name: &str) -> Shape {
        Shape::new([name], TestedClaim::Iat).unwrap()
    }

    fn minute(minute: u32) -> Minute {
        Minute::at(minute).unwrap()
    }

    #[test]
    fn a_shape_is_active_from_its_first_entry_until_its_last_expires() {
        let mut table = ShapeTable::default();
        let mut changes = ShapeChanges::default();
        changes.entry_moves(&shape("jti"), None, Some(minute(10)));
        changes.entry_moves(&shape("jti"), None, Some(minute(20)));
        changes.entry_moves(&shape("sub"), None, Some(minute(5)));
        assert_eq!(table.preview(&changes, minute(1)), (vec![shape("jti"), shape("sub")], vec![]));
        table.apply(&changes, minute(1));
        assert_eq!(table.live_beyond(minute(1)), 3);
        assert_eq!(table.live_beyond(minute(10)), 1);
        let none = ShapeChanges::default();
        assert_eq!(table.preview(&none, minute(5)), (vec![], vec![shape("sub")]));
        table.apply(&none, minute(19));
        assert_eq!(table.active().cloned().collect::<Vec<_>>(), [shape("jti")]);
        table.apply(&none, minute(20));
        assert_eq!(table, ShapeTable::default());
    }

    #[test]
    fn an_entry_that_is_extended_keeps_its_shape_active() {
        let mut table = ShapeTable::default();
        let mut changes = ShapeChanges::default();
        changes.entry_moves(&shape("sub"), None, Some(minute(5)));
        table.apply(&changes, minute(0));
        let mut changes = ShapeChanges::default();
        changes.entry_moves(&shape("sub"), Some(minute(5)), Some(minute(9)));
        assert_eq!(table.preview(&changes, minute(6)), (vec![], vec![]));
        table.apply(&changes, minute(6));
        assert_eq!(table.live_beyond(minute(6)), 1);
    }
}
