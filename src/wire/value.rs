//! Core values to and from their messages.

use super::pb;
use crate::revocation::{Position, Revision, Selector, TestedClaim};

/// A message that does not have the form of the value it stands for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// An epoch id of another length.
    #[error("an epoch id has 16 bytes, {0} given")]
    EpochLength(usize),
    /// A number that names no tested claim.
    #[error("the tested claim is 0 (unset), 1 (iat) or 2 (auth_time), {0} given")]
    TestedClaim(i32),
}

/// The position a message stands for.
///
/// # Errors
/// When the epoch id does not have 16 bytes.
pub fn position(message: &pb::Position) -> Result<Position, FormError> {
    let epoch = message.epoch.as_slice().try_into().map_err(|_| FormError::EpochLength(message.epoch.len()))?;
    Ok(Position { epoch, revision: Revision(message.revision) })
}

/// The message for a position.
#[must_use]
pub fn position_message(position: Position) -> pb::Position {
    pb::Position { epoch: position.epoch.to_vec(), revision: position.revision.0 }
}

/// The tested claim a number stands for; unset is `iat`.
///
/// # Errors
/// When the number names none.
pub fn tested(number: i32) -> Result<TestedClaim, FormError> {
    match pb::TestedClaim::try_from(number) {
        Ok(pb::TestedClaim::Unspecified | pb::TestedClaim::Iat) => Ok(TestedClaim::Iat),
        Ok(pb::TestedClaim::AuthTime) => Ok(TestedClaim::AuthTime),
        Err(_) => Err(FormError::TestedClaim(number)),
    }
}

/// The number for a tested claim.
#[must_use]
pub fn tested_message(tested: TestedClaim) -> i32 {
    match tested {
        TestedClaim::Iat => pb::TestedClaim::Iat.into(),
        TestedClaim::AuthTime => pb::TestedClaim::AuthTime.into(),
    }
}

/// The name of a tested claim, as text surfaces spell it.
#[must_use]
pub fn tested_name(tested: TestedClaim) -> &'static str {
    match tested {
        TestedClaim::Iat => "iat",
        TestedClaim::AuthTime => "auth_time",
    }
}

/// The message for a selector's claims; its tested claim travels beside it.
#[must_use]
pub fn selector_message(selector: &Selector) -> pb::Selector {
    let claims =
        selector.pairs().map(|(name, value)| pb::Claim { name: name.to_owned(), value: value.to_owned() }).collect();
    pb::Selector { claims }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip_and_a_short_epoch_is_refused() {
        let here = Position { epoch: [7; 16], revision: Revision(u64::MAX) };
        assert_eq!(position(&position_message(here)), Ok(here));
        let short = pb::Position { epoch: vec![1; 15], revision: 1 };
        assert_eq!(position(&short), Err(FormError::EpochLength(15)));
    }

    #[test]
    fn tested_claims_round_trip_and_unset_is_iat() {
        for claim in [TestedClaim::Iat, TestedClaim::AuthTime] {
            assert_eq!(tested(tested_message(claim)), Ok(claim));
        }
        assert_eq!(tested(0), Ok(TestedClaim::Iat));
        assert_eq!(tested(3), Err(FormError::TestedClaim(3)));
    }
}
