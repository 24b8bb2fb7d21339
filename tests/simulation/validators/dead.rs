//! What the authority proves to have come everywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::authority::CLOCK_SKEW_MAX;
use crate::history::{AUTHORITY, Event, History, Observed, Point, Proven, Record};
use crate::validators::name;

/// Once the authority said that a position has come everywhere, no node accepts what was revoked at it from a set that is as
/// fresh as policy wants it; after the time by which it is said to be dead everywhere, from no set. Whoever goes on from that
/// position knows better.
pub fn provably_dead(history: &History) -> Result<(), String> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut begun: BTreeMap<usize, Duration> = BTreeMap::new();
    // Clocks that are off by more than policy allows for make no such promise.
    if history.skew_max > CLOCK_SKEW_MAX {
        return Ok(());
    }
    // RESTRICTED: to a process that begins anew a lying sender can show the past, word by word. It is as stale as it says, and
    // the bound on time holds for it.
    let mut misled = BTreeSet::new();
    for record in &history.events {
        match &record.event {
            Event::Restarted { .. } => {
                misled.remove(&record.node);
                begun.remove(&record.node);
            }
            Event::Misled => drop(misled.insert(record.node)),
            Event::Swapped { .. } => drop(begun.entry(record.node).or_insert(record.at)),
            Event::Proven(told) => claims.push(Claim { made: record.at, told: told.clone() }),
            // RESTRICTED: whoever has not caught up since it began goes by the policy of what it began from, which may be an
            // earlier and laxer one: stale without bound, it is taken for nobody who knows.
            Event::Observed(seen) if record.node != AUTHORITY && seen.accepts && seen.ready => {
                // RESTRICTED: a relay feeds others before it has caught up itself. Who begins below it catches up with that.
                let since = begun.get(&record.node).copied().filter(|_| history.relays > 0).unwrap_or_default();
                let trusts = seen.fresh && !misled.contains(&record.node);
                let applies = |claim: &&Claim| {
                    claim.made >= since
                        && ((claim.told.complete && trusts) || claim.told.dead_by.is_some_and(|by| record.at > by))
                };
                for claim in claims.iter().filter(applies) {
                    accepts_none(history, claim.told.at, record, seen)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What was said, and when.
struct Claim {
    made: Duration,
    told: Proven,
}

fn accepts_none(history: &History, at: Point, record: &Record, seen: &Observed) -> Result<(), String> {
    // From there on the log says what is revoked. An epoch that does not go on from there has lost it: whoever had not heard
    // of it before cannot know.
    // RESTRICTED: a restored authority has no table of members. It knows of nobody who still follows an earlier epoch.
    if seen.at >= at || seen.at.generation < at.generation {
        return Ok(());
    }
    let Some(revised) = history.revised(at) else { return Err(format!("{at:?} was proven and never was")) };
    match revised.revoked.difference(&seen.revoked).next() {
        Some(token) => Err(format!(
            "{} at {:?}, {:?}, {:?} stale, accepts {token}, dead everywhere at {at:?}",
            name(record.node),
            record.at,
            seen.at,
            seen.staleness
        )),
        None => Ok(()),
    }
}
