//! How positions move: of the journal, and of each replica.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rescind::revocation::Revision;

use crate::history::{AUTHORITY, Event, History, Point};
use crate::validators::name;

/// The window within which a request id takes effect once, less an hour for clocks that are off.
const REMEMBERED_FOR: Duration = Duration::from_secs(23 * 3600);

/// Applied revisions strictly increase, and so do those of the journal.
pub fn ordered(history: &History) -> Result<(), String> {
    for (generation, epoch) in &history.epochs {
        for (index, revised) in epoch.iter().enumerate() {
            if revised.revision != Revision(index as u64) {
                return Err(format!("the journal of {generation} has {} in place of {index}", revised.revision));
            }
        }
    }
    for record in &history.events {
        if let Event::Advanced { from, to } = record.event
            && to <= from
        {
            return Err(format!("{} applied {to:?} after {from:?} at {:?}", name(record.node), record.at));
        }
    }
    Ok(())
}

/// A delta takes effect once, and so does a request, however often it is sent.
pub fn unique(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut applied = BTreeSet::new();
        for record in history.of(node) {
            match record.event {
                Event::Restarted { .. } => applied.clear(),
                Event::Advanced { to, .. } if !applied.insert(to) => {
                    return Err(format!("{} applied {to:?} twice, at {:?}", name(node), record.at));
                }
                _ => {}
            }
        }
    }
    for epoch in history.epochs.values() {
        let mut accepted: BTreeMap<&String, Duration> = BTreeMap::new();
        for revised in epoch {
            for request in &revised.requests {
                let before = accepted.insert(request, revised.stated);
                if before.is_some_and(|before| revised.stated.saturating_sub(before) < REMEMBERED_FOR) {
                    return Err(format!("request {request} took effect again, in {}", revised.revision));
                }
            }
        }
    }
    Ok(())
}

/// Having a and c means having b between them, or a verified snapshot.
pub fn gapless(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut reached = None;
        for record in history.of(node) {
            match record.event {
                Event::Restarted { .. } => reached = None,
                Event::Advanced { from, to } => {
                    if to != from.next() || reached.is_some_and(|reached| reached != from) {
                        return Err(format!("{} went from {from:?} to {to:?} at {:?}", name(node), record.at));
                    }
                    reached = Some(to);
                }
                Event::Swapped { to } => reached = Some(to),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whoever holds a revision that is kept goes on from it; nobody goes on from a state that never was, or of another epoch.
pub fn resumable(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Welcomed { held: Some((held, digest)), generation, oldest, resumed, intact: true } = record.event
        else {
            continue;
        };
        let is_ours =
            held.generation == generation && history.revised(held).is_some_and(|revised| revised.digest == digest);
        if is_ours && held.revision >= oldest && !resumed {
            return Err(format!(
                "{} held {held:?}, oldest was {oldest}, and got a snapshot at {:?}",
                name(record.node),
                record.at
            ));
        }
        if !is_ours && resumed {
            return Err(format!("{} went on from a state that never was, at {:?}", name(record.node), record.at));
        }
    }
    Ok(())
}

/// A heartbeat follows every delta up to its revision.
pub fn bookmarkable(history: &History) -> Result<(), String> {
    for record in &history.events {
        if let Event::Heartbeat { of, applied } = record.event
            && applied < of
        {
            return Err(format!("{} had {applied:?} when heartbeat {of:?} came", name(record.node)));
        }
    }
    Ok(())
}

/// No replica goes back while it has its memory, whatever it is told, nor does the authority; another epoch is never an
/// earlier one, and one that goes on from what is held takes none of it back. In doubt, what is held stays in force beside.
pub fn monotonic(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let (mut furthest, mut doubt) = (Point::default(), false);
        for record in history.of(node) {
            doubt |= matches!(record.event, Event::Diverged);
            let at = match record.event {
                Event::Restarted { .. } if node != AUTHORITY => {
                    furthest = Point::default();
                    continue;
                }
                Event::Observed(ref seen) if seen.synced && !seen.diverged => seen.at,
                Event::Advanced { to, .. } => to,
                Event::Swapped { to } => to,
                _ => continue,
            };
            let goes_on = !std::mem::take(&mut doubt) && history.takes_over(at.generation, furthest);
            if at < furthest || (goes_on && at.revision < furthest.revision) {
                return Err(format!("{} went back to {at:?} at {:?}", name(node), record.at));
            }
            furthest = at;
        }
    }
    Ok(())
}
