//! What the authority proves to have come everywhere.

use std::time::Duration;

use crate::authority::CLOCK_SKEW_MAX;
use crate::history::{AUTHORITY, Event, History, Observed, Point, Proven, Record};
use crate::validators::name;

/// Once the authority said that a position has come everywhere, no node accepts what was revoked at it from a set that is as
/// fresh as policy wants it; after the time by which it is said to be dead everywhere, from no set. Whoever goes on from that
/// position knows better.
pub fn provably_dead(history: &History) -> Result<(), String> {
    let (mut everywhere, mut by): (Option<Point>, Vec<(Duration, Point)>) = (None, Vec::new());
    // Clocks that are off by more than policy allows for make no such promise.
    if history.skew_max > CLOCK_SKEW_MAX {
        return Ok(());
    }
    for record in &history.events {
        match &record.event {
            Event::Proven(Proven { at, complete, dead_by, .. }) => {
                if *complete {
                    everywhere = everywhere.max(Some(*at));
                }
                by.extend(dead_by.map(|dead_by| (dead_by, *at)));
            }
            // RESTRICTED: whoever has not caught up since it began goes by the policy of what it began from, which may be an
            // earlier and laxer one: stale without bound, it is taken for nobody who knows.
            Event::Observed(seen) if record.node != AUTHORITY && seen.accepts && seen.ready => {
                let passed = by.iter().filter(|(by, _)| record.at > *by).map(|(_, at)| *at).max();
                for at in everywhere.filter(|_| seen.fresh).into_iter().chain(passed) {
                    accepts_none(history, at, record, seen)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
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
