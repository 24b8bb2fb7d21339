//! What a check says, against what the log says at the revision that it answers for.

use crate::history::{Event, Found, History};
use crate::validators::{name, unheard_of};

/// A check that is to know of an acknowledged revoke finds it, or refuses to answer.
pub fn read_your_writes(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Asked { token, at_least, found: Found::NotRevoked, answered } = record.event else { continue };
        let taken_back = history.revised(answered).is_some_and(|revised| !revised.revoked.contains(&token));
        if answered < at_least || !taken_back {
            return Err(format!(
                "{} at {:?} did not find {token}, asked for {at_least:?}, answered at {answered:?}",
                name(record.node),
                record.at
            ));
        }
    }
    Ok(())
}

/// What readers see bears the digest of exactly one revision, and has exactly its revocations and those of sets of earlier
/// epochs that stay in force; a diverged replica has at least those.
pub fn atomic(history: &History) -> Result<(), String> {
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(revised) = history.revised(seen.at) else { return Err(unheard_of(record, seen)) };
        let whole = match seen.diverged || !seen.residues.is_empty() {
            false => seen.revoked == revised.revoked,
            true => seen.revoked.is_superset(&revised.revoked),
        };
        if !whole || (!seen.diverged && seen.digest != revised.digest) {
            return Err(format!("{} at {:?} does not hold exactly {:?}", name(record.node), record.at, seen.at));
        }
    }
    Ok(())
}

/// No check misses a revocation that is live at the revision it answers for.
pub fn no_false_negative(history: &History) -> Result<(), String> {
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(revised) = history.revised(seen.at) else { return Err(unheard_of(record, seen)) };
        let missed: Vec<_> = revised.revoked.difference(&seen.revoked).collect();
        if !missed.is_empty() {
            return Err(format!("{} at {:?}, {:?}, misses {missed:?}", name(record.node), record.at, seen.at));
        }
    }
    Ok(())
}
