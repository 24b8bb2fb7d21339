//! One validator per promise of `docs/design/simulation.md`, each over the whole of what was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rescind::revocation::Revision;

use super::authority::{CLOCK_SKEW_MAX, SUBJECTS};
use super::history::{AUTHORITY, Event, Found, History, Observed, Record};

pub type Validator = fn(&History) -> Result<(), String>;

pub const ALL: [(&str, Validator); 15] = [
    ("Durable", durable),
    ("ReadYourWrites", read_your_writes),
    ("Ordered", ordered),
    ("Unique", unique),
    ("Gapless", gapless),
    ("Atomic", atomic),
    ("Resumable", resumable),
    ("Bookmarkable", bookmarkable),
    ("Monotonic", monotonic),
    ("Convergent", convergent),
    ("HonestFreshness", honest_freshness),
    ("Isolation", isolation),
    ("FailSafe", fail_safe),
    ("NoFalseNegative", no_false_negative),
    ("NoFalsePositive", no_false_positive),
];

/// The window within which a request id takes effect once, less an hour for clocks that are off.
const REMEMBERED_FOR: Duration = Duration::from_secs(23 * 3600);
/// How far the shared log may go beyond its bound: the newest revision is always kept.
const LOG_SLACK_BYTES: u64 = 4096;

/// What was acknowledged is in the journal, and in force after every restart.
fn durable(history: &History) -> Result<(), String> {
    let (mut furthest, mut recovered) = (Revision(0), false);
    for record in history.of(AUTHORITY) {
        match &record.event {
            Event::Acknowledged(answer) => {
                let kept = history.at_revision(answer.revision);
                if !kept.is_some_and(|revised| revised.requests.contains(&answer.request)) {
                    return Err(format!("request {} is not in revision {}", answer.request, answer.revision));
                }
                furthest = furthest.max(answer.revision);
            }
            Event::Recovered => recovered = true,
            Event::Observed(seen) if std::mem::take(&mut recovered) => {
                if seen.revision < furthest {
                    return Err(format!("recovered to {}, but {furthest} was acknowledged", seen.revision));
                }
                let Some(revised) = history.at_revision(seen.revision) else { return Err(unheard_of(record, seen)) };
                let lost: Vec<_> = revised.revoked.difference(&seen.revoked).collect();
                if !lost.is_empty() {
                    return Err(format!("after the restart at {:?} {lost:?} are not in force", record.at));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A check that is to know of an acknowledged revoke finds it, or refuses to answer.
fn read_your_writes(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Asked { subject, at_least, found: Found::NotRevoked, revision } = record.event else { continue };
        let taken_back = history.at_revision(revision).is_some_and(|revised| !revised.revoked.contains(&subject));
        if revision < at_least || !taken_back {
            return Err(format!(
                "{} at {:?} did not find {subject}, asked for {at_least}, answered at {revision}",
                name(record.node),
                record.at
            ));
        }
    }
    Ok(())
}

/// Applied revisions strictly increase, and so do those of the journal.
fn ordered(history: &History) -> Result<(), String> {
    for (index, revised) in history.revised.iter().enumerate() {
        if revised.revision != Revision(index as u64) {
            return Err(format!("the journal has {} in place of {index}", revised.revision));
        }
    }
    for record in &history.events {
        if let Event::Advanced { from, to } = record.event
            && to <= from
        {
            return Err(format!("{} applied {to} after {from} at {:?}", name(record.node), record.at));
        }
    }
    Ok(())
}

/// A delta takes effect once, and so does a request, however often it is sent.
fn unique(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut applied = BTreeSet::new();
        for record in history.of(node) {
            match record.event {
                Event::Restarted => applied.clear(),
                Event::Advanced { to, .. } if !applied.insert(to) => {
                    return Err(format!("{} applied {to} twice, at {:?}", name(node), record.at));
                }
                _ => {}
            }
        }
    }
    let mut accepted: BTreeMap<&String, Duration> = BTreeMap::new();
    for revised in &history.revised {
        for request in &revised.requests {
            let before = accepted.insert(request, revised.stated);
            if before.is_some_and(|before| revised.stated.saturating_sub(before) < REMEMBERED_FOR) {
                return Err(format!("request {request} took effect again, in {}", revised.revision));
            }
        }
    }
    Ok(())
}

/// Having a and c means having b between them, or a verified snapshot.
fn gapless(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut reached = None;
        for record in history.of(node) {
            match record.event {
                Event::Restarted => reached = None,
                Event::Advanced { from, to } => {
                    if to != from.next() || reached.is_some_and(|reached| reached != from) {
                        return Err(format!("{} went from {from} to {to} at {:?}", name(node), record.at));
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

/// What readers see bears the digest of exactly one revision, and has exactly its revocations; a diverged replica has at
/// least those.
fn atomic(history: &History) -> Result<(), String> {
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(revised) = history.at_revision(seen.revision) else { return Err(unheard_of(record, seen)) };
        let whole = match seen.diverged {
            false => seen.digest == revised.digest && seen.revoked == revised.revoked,
            true => seen.revoked.is_superset(&revised.revoked),
        };
        if !whole {
            return Err(format!("{} at {:?} does not hold exactly {}", name(record.node), record.at, seen.revision));
        }
    }
    Ok(())
}

/// Whoever holds a revision that is kept goes on from it; nobody goes on from a state that never was.
fn resumable(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Welcomed { held: Some((revision, digest)), oldest, resumed, intact: true } = record.event else {
            continue;
        };
        let is_ours = history.at_revision(revision).is_some_and(|revised| revised.digest == digest);
        if is_ours && revision >= oldest && !resumed {
            return Err(format!(
                "{} held {revision}, oldest was {oldest}, and got a snapshot at {:?}",
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
fn bookmarkable(history: &History) -> Result<(), String> {
    for record in &history.events {
        if let Event::Heartbeat { revision, applied } = record.event
            && applied < revision
        {
            return Err(format!("{} had {applied} when heartbeat {revision} came", name(record.node)));
        }
    }
    Ok(())
}

/// No replica goes back while it has its memory, whatever it is told, nor does the authority.
fn monotonic(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut furthest = Revision(0);
        for record in history.of(node) {
            let revision = match record.event {
                Event::Restarted if node != AUTHORITY => {
                    furthest = Revision(0);
                    continue;
                }
                Event::Observed(ref seen) if seen.synced && !seen.diverged => seen.revision,
                Event::Advanced { to, .. } => to,
                Event::Swapped { to } => to,
                _ => continue,
            };
            if revision < furthest {
                return Err(format!("{} went back to {revision} at {:?}", name(node), record.at));
            }
            furthest = revision;
        }
    }
    Ok(())
}

/// Once the faults are over, everybody holds the last state, and knows it.
fn convergent(history: &History) -> Result<(), String> {
    let Some(last) = history.revised.last() else { return Err("nothing became durable".to_owned()) };
    for node in history.nodes() {
        let seen = history.observed().filter(|(record, _)| record.node == node).last();
        let Some((_, seen)) = seen else { return Err(format!("{} was never seen", name(node))) };
        let equal = seen.revision == last.revision && seen.digest == last.digest && seen.revoked == last.revoked;
        if !(equal && seen.live && seen.ready && !seen.diverged) {
            return Err(format!("{} ended as {seen:?}, the journal at {}", name(node), last.revision));
        }
    }
    Ok(())
}

/// A replica that lacks a revision never claims to have heard from the authority after it was made.
fn honest_freshness(history: &History) -> Result<(), String> {
    // A word that waited on its way shows its age by the wall clock only. Ticks are coarse: sending and receiving each
    // take one.
    let tolerance = history.delay_max + history.skew_max + CLOCK_SKEW_MAX + Duration::from_millis(50);
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(missing) = history.at_revision(seen.revision.next()) else { continue };
        if missing.at > record.at {
            continue;
        }
        let age = record.at.saturating_sub(missing.at);
        if seen.staleness.saturating_add(tolerance) < age {
            return Err(format!(
                "{} at {:?} claims {:?}, but lacks revision {} for {age:?}",
                name(record.node),
                record.at,
                seen.staleness,
                missing.revision
            ));
        }
    }
    Ok(())
}

/// Whatever subscribers do, the shared log and the queue of each stay within bounds, and every request is answered in
/// the step in which it is asked.
fn isolation(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Load { log_bytes, log_bytes_max, frames, frames_max, unanswered } = record.event else { continue };
        if log_bytes > log_bytes_max + LOG_SLACK_BYTES || frames > frames_max || unanswered > 0 {
            return Err(format!("at {:?}: {:?}", record.at, record.event));
        }
    }
    Ok(())
}

/// What a node once refused it goes on refusing, until the log takes it back.
fn fail_safe(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut before: BTreeSet<u32> = BTreeSet::new();
        for record in history.of(node) {
            let seen = match &record.event {
                Event::Restarted if node != AUTHORITY => {
                    before.clear();
                    continue;
                }
                Event::Observed(seen) => seen,
                _ => continue,
            };
            let live = history.at_revision(seen.revision).map(|revised| &revised.revoked);
            let dropped = |subject: &&u32| live.is_none_or(|live| live.contains(subject));
            if let Some(subject) = before.difference(&seen.revoked).find(dropped) {
                return Err(format!("{} dropped {subject} at {:?}, revision {}", name(node), record.at, seen.revision));
            }
            before.clone_from(&seen.revoked);
        }
    }
    Ok(())
}

/// No check misses a revocation that is live at the revision it answers for.
fn no_false_negative(history: &History) -> Result<(), String> {
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(revised) = history.at_revision(seen.revision) else { return Err(unheard_of(record, seen)) };
        let missed: Vec<_> = revised.revoked.difference(&seen.revoked).collect();
        if !missed.is_empty() {
            return Err(format!("{} at {:?}, {}, misses {missed:?}", name(record.node), record.at, seen.revision));
        }
    }
    Ok(())
}

/// No check finds what is not revoked: never what nobody revoked, and nothing else unless the replica knows that it
/// diverged.
fn no_false_positive(history: &History) -> Result<(), String> {
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(revised) = history.at_revision(seen.revision) else { return Err(unheard_of(record, seen)) };
        let invented =
            seen.revoked.difference(&revised.revoked).find(|subject| !seen.diverged || **subject >= SUBJECTS);
        if let Some(subject) = invented {
            return Err(format!("{} at {:?}, {}, found {subject}", name(record.node), record.at, seen.revision));
        }
    }
    Ok(())
}

fn unheard_of(record: &Record, seen: &Observed) -> String {
    format!("{} at {:?} is at {}, which never was", name(record.node), record.at, seen.revision)
}

fn name(node: usize) -> String {
    if node == AUTHORITY { "the authority".to_owned() } else { format!("replica {node}") }
}
