//! One validator per promise of `docs/design/protocol.md`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::authority::CLOCK_SKEW_MAX;
use super::history::{Event, History};

pub type Validator = fn(&History) -> Result<(), String>;

pub const ALL: [(&str, Validator); 9] = [
    ("Ordered", ordered),
    ("Unique", unique),
    ("Gapless", gapless),
    ("Atomic", atomic),
    ("Resumable", resumable),
    ("Bookmarkable", bookmarkable),
    ("Monotonic", monotonic),
    ("Convergent", convergent),
    ("HonestFreshness", honest_freshness),
];

/// Applied revisions strictly increase.
fn ordered(history: &History) -> Result<(), String> {
    for record in &history.events {
        if let Event::Advanced { from, to } = record.event
            && to <= from
        {
            return Err(format!("replica {} applied {to} after {from} at {:?}", record.replica, record.at));
        }
    }
    Ok(())
}

/// A delta takes effect once.
fn unique(history: &History) -> Result<(), String> {
    for replica in 0..history.replicas {
        let mut applied = BTreeSet::new();
        for record in history.of(replica) {
            match record.event {
                Event::Advanced { to, .. } if !applied.insert(to) => {
                    return Err(format!("replica {replica} applied {to} twice, at {:?}", record.at));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Having a and c means having b between them, or a verified snapshot.
fn gapless(history: &History) -> Result<(), String> {
    for replica in 0..history.replicas {
        let mut reached = None;
        for record in history.of(replica) {
            match record.event {
                Event::Advanced { from, to } => {
                    if to != from.next() || reached.is_some_and(|reached| reached != from) {
                        return Err(format!("replica {replica} went from {from} to {to} at {:?}", record.at));
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

/// Readers see exactly the state of one revision; a diverged replica at least that.
fn atomic(history: &History) -> Result<(), String> {
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(published) = history.at_revision(seen.revision) else {
            return Err(format!("replica {} is at {}, never published", record.replica, seen.revision));
        };
        let whole = match seen.diverged {
            false => seen.revoked == published.revoked && seen.digest == published.digest,
            true => seen.revoked.is_superset(&published.revoked),
        };
        if !whole {
            let missed: Vec<_> = published.revoked.difference(&seen.revoked).collect();
            return Err(format!(
                "replica {} at {:?} does not hold revision {} (misses {missed:?}, diverged: {})",
                record.replica, record.at, seen.revision, seen.diverged
            ));
        }
    }
    Ok(())
}

/// Whoever holds a revision that is kept, or the one before, goes on from it.
fn resumable(history: &History) -> Result<(), String> {
    for record in &history.events {
        let Event::Welcomed { held: Some((revision, digest)), oldest, resumed, intact: true } = record.event else {
            continue;
        };
        let is_ours = history.at_revision(revision).is_some_and(|published| published.digest == digest);
        if is_ours && revision >= oldest && !resumed {
            return Err(format!(
                "replica {} held {revision}, oldest was {oldest}, and got a snapshot at {:?}",
                record.replica, record.at
            ));
        }
        if !is_ours && resumed {
            return Err(format!("replica {} went on from a state that never was, at {:?}", record.replica, record.at));
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
            return Err(format!("replica {} had {applied} when heartbeat {revision} came", record.replica));
        }
    }
    Ok(())
}

/// No replica ever goes back.
fn monotonic(history: &History) -> Result<(), String> {
    for replica in 0..history.replicas {
        let mut furthest = None;
        for record in history.of(replica) {
            let revision = match &record.event {
                Event::Observed(seen) if seen.synced => seen.revision,
                Event::Swapped { to } | Event::Advanced { to, .. } => *to,
                _ => continue,
            };
            if furthest.is_some_and(|furthest| revision < furthest) {
                return Err(format!("replica {replica} went back to {revision} at {:?}", record.at));
            }
            furthest = Some(revision);
        }
    }
    Ok(())
}

/// Once the faults are over, every replica holds the authority's last state, and knows it.
fn convergent(history: &History) -> Result<(), String> {
    let Some(last) = history.published.last() else { return Err("nothing was published".to_owned()) };
    for replica in 0..history.replicas {
        let seen = history.observed().filter(|(record, _)| record.replica == replica).last();
        let Some((_, seen)) = seen else { return Err(format!("replica {replica} was never seen")) };
        let equal = seen.revision == last.revision && seen.digest == last.digest && seen.revoked == last.revoked;
        if !(equal && seen.live && seen.ready && !seen.diverged) {
            return Err(format!("replica {replica} ended as {seen:?}, the authority at {}", last.revision));
        }
    }
    Ok(())
}

/// A replica that lacks a revision never claims to have heard from the authority after it was published.
fn honest_freshness(history: &History) -> Result<(), String> {
    // A word that waited on its way shows its age by the wall clock only. Ticks are coarse: sending and receiving each
    // take one.
    let tolerance = history.delay_max + CLOCK_SKEW_MAX + Duration::from_millis(50);
    for (record, seen) in history.observed().filter(|(_, seen)| seen.synced) {
        let Some(missing) = history.at_revision(seen.revision.next()) else { continue };
        if missing.at > record.at {
            continue;
        }
        let age = record.at.saturating_sub(missing.at);
        if seen.staleness.saturating_add(tolerance) < age {
            return Err(format!(
                "replica {} at {:?} claims {:?}, but lacks revision {} for {age:?}",
                record.replica, record.at, seen.staleness, missing.revision
            ));
        }
    }
    Ok(())
}

/// A deliberately broken history makes each validator fail.
#[cfg(test)]
mod tests {
    use rescind::revocation::{Digest, Revision};

    use super::super::history::{Observed, Record};
    use super::super::world::Faults;
    use super::*;

    fn broken(name: &str, break_it: impl FnOnce(&mut History)) {
        let faults = Faults { cut_every: Some(Duration::from_secs(4)), ..Faults::NONE };
        let mut history = super::super::check(4242, faults);
        break_it(&mut history);
        let validate = ALL.iter().find(|(other, _)| *other == name).unwrap().1;
        assert!(validate(&history).is_err(), "{name} did not notice");
    }

    fn last_observed(history: &mut History) -> &mut Observed {
        let mut events = history.events.iter_mut().rev();
        events.find_map(|record| if let Event::Observed(seen) = &mut record.event { Some(seen) } else { None }).unwrap()
    }

    fn some_advance(history: &History) -> usize {
        history.events.iter().position(|record| matches!(record.event, Event::Advanced { .. })).unwrap()
    }

    #[test]
    fn ordered_notices_a_step_back() {
        broken("Ordered", |history| {
            let index = some_advance(history);
            if let Event::Advanced { from, to } = &mut history.events[index].event {
                std::mem::swap(from, to);
            }
        });
    }

    #[test]
    fn unique_notices_a_repetition() {
        broken("Unique", |history| {
            let again = history.events[some_advance(history)].clone();
            history.events.push(again);
        });
    }

    #[test]
    fn gapless_notices_a_missing_revision() {
        broken("Gapless", |history| {
            let index = some_advance(history);
            history.events.remove(index);
        });
    }

    #[test]
    fn atomic_notices_a_missed_revocation() {
        broken("Atomic", |history| {
            last_observed(history).revoked.pop_first();
        });
    }

    #[test]
    fn resumable_notices_a_needless_snapshot() {
        broken("Resumable", |history| {
            let welcomed = history.events.iter_mut().find_map(|record| match &mut record.event {
                Event::Welcomed { held: Some(_), resumed, .. } if *resumed => Some(resumed),
                _ => None,
            });
            *welcomed.unwrap() = false;
        });
    }

    #[test]
    fn resumable_notices_a_wrong_state_gone_on_from() {
        broken("Resumable", |history| {
            let held = history.events.iter_mut().find_map(|record| match &mut record.event {
                Event::Welcomed { held: Some(held), resumed: true, .. } => Some(held),
                _ => None,
            });
            held.unwrap().1 = Digest::from_bytes([0xee; 16]);
        });
    }

    #[test]
    fn bookmarkable_notices_an_overtaking_heartbeat() {
        broken("Bookmarkable", |history| {
            let revision = history.events.iter_mut().find_map(|record| match &mut record.event {
                Event::Heartbeat { revision, .. } => Some(revision),
                _ => None,
            });
            *revision.unwrap() = Revision(u64::MAX);
        });
    }

    #[test]
    fn monotonic_notices_a_return() {
        broken("Monotonic", |history| {
            let mut seen = last_observed(history).clone();
            seen.revision = Revision(0);
            let (at, replica) = history.events.last().map(|record| (record.at, record.replica)).unwrap();
            history.events.push(Record { at, replica, event: Event::Observed(seen) });
        });
    }

    #[test]
    fn convergent_notices_a_straggler() {
        broken("Convergent", |history| last_observed(history).live = false);
    }

    #[test]
    fn honest_freshness_notices_a_flattering_claim() {
        broken("HonestFreshness", |history| {
            let seen = last_observed(history);
            (seen.revision, seen.staleness) = (Revision(1), Duration::ZERO);
        });
    }
}
