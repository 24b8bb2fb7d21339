//! How everybody stands: in the end, against the clock, and at what cost.

use std::time::Duration;

use crate::authority::CLOCK_SKEW_MAX;
use crate::history::{Event, History, Point};
use crate::validators::name;

/// How far the shared log may go beyond its bound: the newest revision is always kept.
const LOG_SLACK_BYTES: u64 = 4096;

/// Once the faults are over, everybody holds the last state, and knows it. What else is in force is of an earlier epoch.
pub fn convergent(history: &History) -> Result<(), String> {
    let Some((at, last)) = history.last() else { return Err("nothing became durable".to_owned()) };
    for node in history.nodes() {
        let seen = history.observed().filter(|(record, _)| record.node == node).last();
        let Some((_, seen)) = seen else { return Err(format!("{} was never seen", name(node))) };
        let equal = seen.at == at
            && seen.digest == last.digest
            && seen.revoked.is_superset(&last.revoked)
            && (seen.revoked == last.revoked || !seen.residues.is_empty());
        if !(equal && seen.live && seen.ready && !seen.diverged) {
            return Err(format!("{} ended as {seen:?}, the journal at {at:?}", name(node)));
        }
    }
    Ok(())
}

/// A replica that lacks a revision never claims to have heard from the authority after it was made.
pub fn honest_freshness(history: &History) -> Result<(), String> {
    // A word that waited on its way shows its age by the wall clock only. Ticks are coarse: sending and receiving each
    // take one.
    let tolerance = history.delay_max + history.skew_max + CLOCK_SKEW_MAX + Duration::from_millis(50);
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(missing) = missing_since(history, seen.at).filter(|missing| *missing <= record.at) else { continue };
        let age = record.at.saturating_sub(missing);
        if seen.staleness.saturating_add(tolerance) < age {
            return Err(format!(
                "{} at {:?} claims {:?} at {:?}, but lacks what came next for {age:?}",
                name(record.node),
                record.at,
                seen.staleness,
                seen.at
            ));
        }
    }
    Ok(())
}

/// Since when there is more than `at`: the next revision, or the next epoch.
fn missing_since(history: &History, at: Point) -> Option<Duration> {
    if let Some(next) = history.revised(at.next()) {
        return Some(next.at);
    }
    let (generation, parent) = history.parents.range(at.generation + 1..).next()?;
    let first = Point { generation: *generation, revision: parent.revision.next() };
    history.revised(first).map(|first| first.at)
}

/// Whatever subscribers do, the shared log and the queue of each stay within bounds, and every request is answered in
/// the step in which it is asked.
pub fn isolation(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Load { log_bytes, log_bytes_max, frames, frames_max, unanswered } = record.event else { continue };
        if log_bytes > log_bytes_max + LOG_SLACK_BYTES || frames > frames_max || unanswered > 0 {
            return Err(format!("at {:?}: {:?}", record.at, record.event));
        }
    }
    Ok(())
}
