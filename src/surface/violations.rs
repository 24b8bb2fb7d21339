//! What is wrong with a request: collected field by field, all of it at once, so that a caller corrects it once.
//!
//! Says where, the limit and what kind of thing was given; never a value, which may identify somebody.

use std::fmt;

use crate::revocation::ports::Violation;

/// The most violations told in one answer. gRPC carries them in a trailer that clients cap at 8 KiB by default.
pub(crate) const VIOLATIONS_MAX: usize = 16;
/// The most bytes of violations told in one answer, for the same reason.
pub(crate) const VIOLATION_BYTES_MAX: usize = 3 * 1024;

/// Everything that is wrong, as far as it fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations {
    told: Vec<Violation>,
    bytes: usize,
    left_out: usize,
}

impl Violations {
    /// Adds one. What no longer fits is counted.
    pub(crate) fn add(&mut self, field: impl fmt::Display, description: impl fmt::Display) {
        if self.told.len() == VIOLATIONS_MAX {
            self.left_out += 1;
            return;
        }
        self.keep(Violation { field: field.to_string(), description: description.to_string() });
    }

    fn keep(&mut self, violation: Violation) {
        let bytes = violation.field.len() + violation.description.len();
        if self.told.len() == VIOLATIONS_MAX || self.bytes + bytes > VIOLATION_BYTES_MAX {
            self.left_out += 1;
        } else {
            self.bytes += bytes;
            self.told.push(violation);
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty() && self.left_out == 0
    }

    /// How many there are, told or not.
    pub(crate) fn count(&self) -> usize {
        self.told.len() + self.left_out
    }

    /// Those that are told, in the order found.
    pub(crate) fn told(&self) -> &[Violation] {
        &self.told
    }

    /// The same with another spelling of the fields.
    pub(crate) fn renamed(self, rename: impl Fn(&str) -> String) -> Self {
        let told = self.told.into_iter().map(|v| Violation { field: rename(&v.field), ..v }).collect();
        Self { told, ..self }
    }

    /// `Ok` if nothing is wrong and there is a value.
    pub(crate) fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl From<Vec<Violation>> for Violations {
    fn from(all: Vec<Violation>) -> Self {
        let mut violations = Self::default();
        all.into_iter().for_each(|violation| violations.keep(violation));
        violations
    }
}

/// `"revocations[3].reason: has at most 512 bytes, 600 given (and 4 more)"`.
impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.told.first() else {
            return write!(f, "{} fields are wrong", self.left_out);
        };
        write!(f, "{}: {}", first.field, first.description)?;
        match self.count() - 1 {
            0 => Ok(()),
            more => write!(f, " (and {more} more)"),
        }
    }
}

/// A field's place in a request, written out only when something is wrong there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    name: &'a str,
    index: Option<usize>,
}

impl<'a> Path<'a> {
    /// A field of the request itself.
    pub(crate) fn root(name: &'a str) -> Self {
        Self { parent: None, name, index: None }
    }

    /// An element of a list of the request itself.
    pub(crate) fn element(name: &'a str, index: usize) -> Self {
        Self { parent: None, name, index: Some(index) }
    }

    /// A field within this one.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), name, index: None }
    }

    /// An element of a list within this field.
    pub(crate) fn item(&'a self, name: &'a str, index: usize) -> Self {
        Self { parent: Some(self), name, index: Some(index) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.name)?;
        self.index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_like_the_request() {
        let item = Path::element("revocations", 3);
        let exception = item.item("exceptions", 0);
        assert_eq!(exception.field("claims").to_string(), "revocations[3].exceptions[0].claims");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut violations = Violations::default();
        (0..10_000).for_each(|index| violations.add(Path::element("revocations", index), "wrong"));
        assert_eq!((violations.told().len(), violations.count()), (VIOLATIONS_MAX, 10_000));
        assert_eq!(violations.to_string(), "revocations[0]: wrong (and 9999 more)");

        let mut long = Violations::default();
        (0..3).for_each(|_| long.add("f", "x".repeat(VIOLATION_BYTES_MAX / 2)));
        assert_eq!((long.told().len(), long.count()), (1, 3));
    }

    #[test]
    fn a_value_is_worth_nothing_beside_a_violation() {
        let mut violations = Violations::default();
        violations.add("a", "b");
        assert!(violations.or(Some(1)).is_err());
        assert_eq!(Violations::default().or(Some(1)), Ok(1));
    }
}
