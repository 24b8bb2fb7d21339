//! A deliberately broken history makes each validator fail.

use std::time::Duration;

use rescind::revocation::{Digest, Revision};

use super::check;
use super::faults::Faults;
use super::history::{AUTHORITY, Acknowledged, Event, Found, History, Observed, Point, Proven, Record};
use super::validators::ALL;

const fn every(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn broken(name: &str, break_it: impl FnOnce(&mut History)) {
    let faults = Faults { cut_every: every(4), crash_every: every(4), ..Faults::NONE };
    broken_under(name, faults, break_it);
}

fn broken_under(name: &str, faults: Faults, break_it: impl FnOnce(&mut History)) {
    let mut history = check(4242, faults);
    break_it(&mut history);
    let validate = ALL.iter().find(|(other, _)| *other == name).unwrap().1;
    assert!(validate(&history).is_err(), "{name} did not notice");
}

/// The last thing of its kind that a replica, or the authority, went through.
fn last<'a, T>(
    history: &'a mut History,
    authority: bool,
    kind: impl Fn(&'a mut Event) -> Option<&'a mut T>,
) -> &'a mut T {
    let events = history.events.iter_mut().rev().filter(|record| (record.node == AUTHORITY) == authority);
    events.map(|record| &mut record.event).find_map(kind).unwrap()
}

fn observed(event: &mut Event) -> Option<&mut Observed> {
    if let Event::Observed(seen) = event { Some(seen) } else { None }
}

fn acknowledged(event: &mut Event) -> Option<&mut Acknowledged> {
    if let Event::Acknowledged(answer) = event { Some(answer) } else { None }
}

/// A point at the beginning.
fn early() -> Point {
    Point { generation: 5, revision: Revision(1) }
}

fn some_advance(history: &History) -> usize {
    history.events.iter().position(|record| matches!(record.event, Event::Advanced { .. })).unwrap()
}

/// The last observation in which something is revoked.
fn with_revocations(event: &mut Event) -> Option<&mut Observed> {
    observed(event).filter(|seen| seen.synced && !seen.revoked.is_empty())
}

#[test]
fn durable_notices_an_acknowledgement_of_nothing() {
    broken("Durable", |history| last(history, true, acknowledged).request.push('x'));
}

#[test]
fn durable_notices_a_revocation_lost_in_a_restart() {
    broken("Durable", |history| {
        let mut recovered = false;
        for record in &mut history.events {
            match &mut record.event {
                Event::Recovered => recovered = true,
                Event::Observed(seen) if record.node == AUTHORITY && std::mem::take(&mut recovered) => {
                    seen.revoked.pop_first();
                }
                _ => {}
            }
        }
    });
}

#[test]
fn durable_notices_a_restart_that_goes_back() {
    broken("Durable", |history| {
        let seen = last(history, true, observed).clone();
        let at = history.events.last().unwrap().at;
        let seen = Event::Observed(Observed { at: early(), ..seen });
        history.events.extend([Event::Recovered, seen].map(|event| Record { at, node: AUTHORITY, event }));
    });
}

#[test]
fn read_your_writes_notices_a_miss() {
    broken("ReadYourWrites", |history| {
        *last(history, false, |event| match event {
            Event::Asked { found, .. } if *found == Found::Revoked => Some(found),
            _ => None,
        }) = Found::NotRevoked;
    });
}

#[test]
fn read_your_writes_notices_an_answer_from_before() {
    broken("ReadYourWrites", |history| {
        let at_least = early().next();
        let asked = Event::Asked { token: 99, at_least, found: Found::NotRevoked, answered: early() };
        history.events.push(Record { at: Duration::ZERO, node: 0, event: asked });
    });
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
fn ordered_notices_a_journal_out_of_order() {
    broken("Ordered", |history| history.epochs.values_mut().for_each(|epoch| epoch.swap(1, 2)));
}

#[test]
fn unique_notices_a_repetition() {
    broken("Unique", |history| {
        let again = history.events[some_advance(history)].clone();
        history.events.insert(some_advance(history), again);
    });
}

#[test]
fn unique_notices_a_request_that_takes_effect_twice() {
    broken("Unique", |history| {
        let epoch = history.epochs.values_mut().next().unwrap();
        let request = epoch.iter().find_map(|revised| revised.requests.first().cloned()).unwrap();
        epoch.last_mut().unwrap().requests.push(request);
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
fn atomic_notices_another_digest() {
    broken("Atomic", |history| last(history, false, observed).digest = Digest::from_bytes([0xee; 16]));
}

#[test]
fn atomic_notices_a_part_of_a_revision() {
    broken("Atomic", |history| {
        last(history, false, with_revocations).revoked.pop_first();
    });
}

fn resumption(event: &mut Event) -> Option<(&mut Digest, &mut bool)> {
    match event {
        Event::Welcomed { held: Some((_, digest)), resumed, intact: true, .. } if *resumed => Some((digest, resumed)),
        _ => None,
    }
}

#[test]
fn resumable_notices_a_needless_snapshot() {
    broken("Resumable", |history| *last(history, false, |event| Some(resumption(event)?.1)) = false);
}

#[test]
fn resumable_notices_a_wrong_state_gone_on_from() {
    broken("Resumable", |history| {
        *last(history, false, |event| Some(resumption(event)?.0)) = Digest::from_bytes([0xee; 16]);
    });
}

#[test]
fn bookmarkable_notices_an_overtaking_heartbeat() {
    broken("Bookmarkable", |history| {
        *last(history, false, |event| match event {
            Event::Heartbeat { of, .. } => Some(of),
            _ => None,
        }) = Point { generation: 5, revision: Revision(u64::MAX) };
    });
}

#[test]
fn monotonic_notices_a_replica_that_goes_back() {
    broken("Monotonic", |history| last(history, false, observed).at = early());
}

#[test]
fn monotonic_notices_an_authority_that_goes_back() {
    broken("Monotonic", |history| last(history, true, observed).at = early());
}

#[test]
fn monotonic_notices_a_diverged_replica_that_goes_back() {
    broken("Monotonic", |history| {
        let back = [Event::Diverged, Event::Swapped { to: early() }];
        history.events.extend(back.map(|event| Record { at: Duration::ZERO, node: 0, event }));
    });
}

#[test]
fn convergent_notices_a_straggler() {
    broken("Convergent", |history| last(history, false, observed).live = false);
}

#[test]
fn honest_freshness_notices_a_flattering_claim() {
    broken("HonestFreshness", |history| {
        let seen = last(history, false, observed);
        (seen.at, seen.staleness) = (early(), Duration::ZERO);
    });
}

#[test]
fn isolation_notices_a_log_without_bound() {
    broken("Isolation", |history| {
        *last(history, true, |event| match event {
            Event::Load { log_bytes, .. } => Some(log_bytes),
            _ => None,
        }) = 1 << 20;
    });
}

#[test]
fn isolation_notices_a_writer_that_waits() {
    broken("Isolation", |history| {
        *last(history, true, |event| match event {
            Event::Load { unanswered, .. } => Some(unanswered),
            _ => None,
        }) = 1;
    });
}

#[test]
fn fail_safe_notices_a_revocation_that_vanishes() {
    broken("FailSafe", |history| last(history, false, with_revocations).revoked.clear());
}

#[test]
fn no_false_negative_notices_a_miss() {
    broken("NoFalseNegative", |history| {
        last(history, true, with_revocations).revoked.pop_last();
    });
}

#[test]
fn no_false_positive_notices_an_invention() {
    broken("NoFalsePositive", |history| {
        last(history, false, observed).revoked.insert(u32::MAX);
    });
}

/// An authority that was restored from a backup while replicas held more.
const RESTORED: Faults = Faults { backup_every: every(2), restore_every: every(4), ..Faults::NONE };

fn with_residue(event: &mut Event) -> Option<&mut Observed> {
    observed(event).filter(|seen| !seen.residues.is_empty())
}

#[test]
fn fail_safe_notices_a_restored_backup_that_takes_a_revocation_back() {
    broken_under("FailSafe", RESTORED, |history| {
        // Whoever refuses more than the epoch that was restored: it stops doing so.
        let live: Vec<_> = history.epochs.values().filter_map(|epoch| Some(epoch.last()?.revoked.clone())).collect();
        let refuses_more = |seen: &&mut Observed| live.iter().all(|live| !seen.revoked.is_subset(live));
        last(history, false, |event| with_residue(event).filter(refuses_more)).revoked.clear();
    });
}

#[test]
fn fail_safe_notices_a_clock_that_makes_the_log_forget() {
    broken("FailSafe", |history| {
        let floor = rescind::revocation::Minute::at(history.began.as_secs() as u32 / 60 + 10).unwrap();
        history.epochs.values_mut().for_each(|epoch| epoch[1].floor = floor);
    });
}

#[test]
fn no_false_positive_notices_more_than_an_earlier_epoch_held() {
    broken_under("NoFalsePositive", RESTORED, |history| {
        last(history, false, with_residue).revoked.insert(super::token::SUBJECTS);
    });
}

#[test]
fn history_lost_notices_what_is_not_counted() {
    broken_under("HistoryLost", RESTORED, |history| {
        *last(history, true, |event| match event {
            Event::HistoryLost { counted: counted @ 1.., .. } => Some(counted),
            _ => None,
        }) -= 1;
    });
}

#[test]
fn monotonic_notices_a_return_to_an_earlier_epoch() {
    broken_under("Monotonic", RESTORED, |history| {
        last(history, false, |event| observed(event).filter(|seen| seen.at.generation > 5)).at.generation = 5;
    });
}

#[test]
fn monotonic_notices_an_epoch_that_begins_before_what_it_goes_on_from() {
    broken_under("Monotonic", RESTORED, |history| {
        let parent = history.parents[&6];
        let ahead =
            [Event::Swapped { to: parent }, Event::Swapped { to: Point { generation: 6, revision: Revision(0) } }];
        history.events = ahead.map(|event| Record { at: Duration::ZERO, node: 0, event }).into();
    });
}

#[test]
fn resumable_notices_an_epoch_gone_on_from_that_is_another() {
    broken_under("Resumable", RESTORED, |history| {
        *last(history, false, |event| match event {
            Event::Welcomed { held: Some((held, _)), generation, resumed, intact: true, .. }
                if held.generation != *generation =>
            {
                Some(resumed)
            }
            _ => None,
        }) = true;
    });
}

/// Every replica denies when it is stale, and is cut off at times.
const DENYING: Faults = Faults { policy_every: every(5), cut_every: every(3), ..Faults::NONE };

/// The last revision at which a token was revoked that the one before it did not have.
fn newly_revoked(history: &History) -> Point {
    let (generation, epoch) = history.epochs.last_key_value().unwrap();
    let newer = epoch.windows(2).rev().find(|pair| !pair[1].revoked.is_subset(&pair[0].revoked)).unwrap();
    Point { generation: *generation, revision: newer[1].revision }
}

/// Says that what was revoked last was dead everywhere from the beginning.
fn claim(history: &mut History, claim: impl FnOnce(Point) -> Proven) {
    let (at, began) = (newly_revoked(history), history.began);
    history.events.insert(0, Record { at: began, node: AUTHORITY, event: Event::Proven(claim(at)) });
}

#[test]
fn provably_dead_notices_a_false_claim() {
    broken_under("ProvablyDead", DENYING, |history| claim(history, |at| Proven { at, complete: true, dead_by: None }));
}

#[test]
fn provably_dead_notices_a_time_that_is_too_early() {
    broken_under("ProvablyDead", DENYING, |history| {
        let began = history.began;
        claim(history, |at| Proven { at, complete: false, dead_by: Some(began) });
    });
}
