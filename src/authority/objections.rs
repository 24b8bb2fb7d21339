//! What stands against a request, field by field: gathered over all of its items, told at once.

use crate::revocation::grant::{Caution, Denial, Part};
use crate::revocation::ports::{ExpiryChoice, Revoke, Target, Violation, WriteError};

/// What stands against a request. What is not permitted counts before what is wrong: whoever may not write is told no more.
#[derive(Default)]
pub struct Objections {
    denied: Vec<Violation>,
    wrong: Vec<Violation>,
}

impl Objections {
    /// More of a kind than this are not kept: an answer tells fewer still.
    const KEPT_MAX: usize = 100;

    /// What the caller's grant does not reach.
    pub fn denials(&mut self, index: usize, item: &Revoke, denials: Vec<(Part, Denial)>) {
        let room = Self::KEPT_MAX.saturating_sub(self.denied.len());
        self.denied.extend(denials.into_iter().take(room).map(|(part, denial)| Violation {
            field: format!("revocations[{index}].{}", field(part, item)),
            description: denial.to_string(),
        }));
    }

    /// What the caller's grant does not let him reinstate.
    pub fn undoing(&mut self, index: usize, denials: Vec<Denial>) {
        let room = Self::KEPT_MAX.saturating_sub(self.denied.len());
        self.denied.extend(
            denials
                .into_iter()
                .take(room)
                .map(|denial| Violation { field: format!("reinstatements[{index}]"), description: denial.to_string() }),
        );
    }

    /// What was to be confirmed and was not.
    pub fn cautions(&mut self, index: usize, item: &Revoke, cautions: &[Caution]) {
        for caution in cautions {
            let description = format!("{caution}; set confirmed (--yes) if that is meant");
            self.wrong(index, &field(caution.part(), item), description);
        }
    }

    /// A wrong field.
    pub fn wrong(&mut self, index: usize, field: &str, description: impl ToString) {
        if self.wrong.len() < Self::KEPT_MAX {
            let field = format!("revocations[{index}].{field}");
            self.wrong.push(Violation { field, description: description.to_string() });
        }
    }

    /// `Ok` if nothing stands against it.
    pub fn or<T>(self, value: T) -> Result<T, WriteError> {
        match self {
            Self { denied, .. } if !denied.is_empty() => Err(WriteError::NotPermitted { violations: denied }),
            Self { wrong, .. } if !wrong.is_empty() => Err(WriteError::Invalid(wrong)),
            _ => Ok(value),
        }
    }
}

/// The field of a revocation where an objection lies.
fn field(part: Part, item: &Revoke) -> String {
    match (part, &item.target, item.expiry) {
        (Part::Target, Target::Selector(_), _) => "selector".to_owned(),
        (Part::Target, Target::Token { .. }, _) => "token".to_owned(),
        (Part::Exception(index), ..) => format!("exceptions[{index}]"),
        (Part::Expiry, _, ExpiryChoice::Never) => "never_expires".to_owned(),
        (Part::Expiry, _, ExpiryChoice::At(_) | ExpiryChoice::In(_)) => "expires_at_seconds".to_owned(),
        (Part::Expiry, ..) => "unbounded".to_owned(),
    }
}
