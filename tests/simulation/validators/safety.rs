//! What is refused stays refused until the log takes it back, over restarts, lies and restored backups; and nothing else is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rescind::revocation::Minute;

use crate::history::{AUTHORITY, Event, History, Observed, Point, Record};
use crate::validators::{name, unheard_of};

/// A set of an earlier epoch that the epoch followed does not go on from.
struct Owed {
    generation: u64,
    until: BTreeMap<u32, Minute>,
}

/// Follows one node through a history.
struct Watch<'a> {
    history: &'a History,
    at: Point,
    /// What checks found last, and whether it had diverged then.
    found: BTreeSet<u32>,
    diverged: bool,
    owed: Vec<Owed>,
    /// All that such sets held: they are let go as a whole, later than some of it. `None`: it was in doubt.
    kept: BTreeMap<u64, Option<BTreeSet<u32>>>,
    /// Something came that the authority did not send.
    misled: bool,
}

impl<'a> Watch<'a> {
    fn new(history: &'a History) -> Self {
        Self {
            history,
            at: Point::default(),
            found: BTreeSet::new(),
            diverged: false,
            owed: Vec::new(),
            kept: BTreeMap::new(),
            misled: false,
        }
    }

    /// Takes what happened into account, but for what was seen.
    fn follow(&mut self, record: &Record) {
        match &record.event {
            Event::Restarted { residues } if record.node != AUTHORITY => {
                *self = Self { misled: self.misled, ..Self::new(self.history) };
                residues.iter().for_each(|at| self.owe(*at));
            }
            // Whoever restores knows what it does; those below do not.
            Event::Restored => *self = Self::new(self.history),
            Event::Misled => self.misled = true,
            Event::Diverged => self.diverged = true,
            Event::Advanced { to, .. } => self.move_to(*to),
            Event::Swapped { to } => {
                let changes = self.at.generation != 0 && self.at.generation != to.generation;
                if changes && (self.diverged || !self.history.takes_over(to.generation, self.at)) {
                    self.owe(self.at);
                }
                self.diverged = false;
                self.move_to(*to);
            }
            _ => {}
        }
    }

    /// What was held at `at` stays in force beside what is followed from now on.
    fn owe(&mut self, at: Point) {
        let revised = self.history.revised(at);
        let mut until = revised.map(|revised| revised.until.clone()).unwrap_or_default();
        if self.diverged {
            // It had heard of more than it could verify.
            let later = self.history.epochs.get(&at.generation).into_iter().flatten();
            let later: Vec<_> = later.filter(|revised| revised.revision > at.revision).collect();
            for token in &self.found {
                let expiry = later.iter().filter_map(|revised| revised.until.get(token)).max();
                until.extend(expiry.map(|expiry| (*token, *expiry)));
            }
        }
        self.kept.insert(at.generation, (!self.diverged).then(|| until.keys().copied().collect()));
        self.owed.push(Owed { generation: at.generation, until });
    }

    /// Nothing is owed any more that an operator gave up, or that has expired.
    fn move_to(&mut self, at: Point) {
        self.at = at;
        let Some(revised) = self.history.revised(at) else { return };
        self.owed.retain(|owed| owed.generation > revised.losses_accepted);
        for owed in &mut self.owed {
            owed.until.retain(|_, expiry| *expiry > revised.floor || *expiry == Minute::NEVER);
        }
    }

    /// Whether it may refuse a token that is not revoked at the revision it holds.
    fn may_fear(&self, token: u32, now: Duration, seen: &Observed) -> bool {
        let is_kept = |generation: &u64| match self.kept.get(generation) {
            Some(Some(kept)) => kept.contains(&token),
            Some(None) => true,
            None => false,
        };
        // It hears of revisions before its own, too, while it gets another set.
        let mut told = self.history.epochs.get(&seen.at.generation).into_iter().flatten();
        seen.residues.iter().any(is_kept)
            || (seen.diverged && (self.misled || told.any(|told| told.at <= now && told.revoked.contains(&token))))
    }

    fn see(&mut self, seen: &Observed) {
        self.found.clone_from(&seen.revoked);
        self.diverged = seen.diverged;
    }
}

/// What a node once refused it goes on refusing, until the log takes it back. A restored backup lacks some of the log: what
/// that revoked stays refused until it expires or an operator accepts the loss.
pub fn fail_safe(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut watch = Watch::new(history);
        for record in history.of(node) {
            watch.follow(record);
            let Event::Observed(seen) = &record.event else { continue };
            let dropped = |token: &u32| format!("{} dropped {token} at {:?}, {:?}", name(node), record.at, seen.at);
            let live = history.revised(seen.at).map(|revised| &revised.revoked);
            if let Some(token) =
                watch.found.difference(&seen.revoked).find(|token| live.is_some_and(|live| live.contains(token)))
            {
                return Err(dropped(token));
            }
            let mut owed = watch.owed.iter().flat_map(|owed| owed.until.keys());
            if let Some(token) = owed.find(|token| seen.accepts && !seen.revoked.contains(token)) {
                return Err(format!("{}, which a restored backup lacks", dropped(token)));
            }
            watch.see(seen);
        }
    }
    early_expiry(history)
}

/// No clock makes the log forget early: its floor moves at most twice as fast as time.
fn early_expiry(history: &History) -> Result<(), String> {
    let began = history.began.as_secs() / 60;
    for revised in history.epochs.values().flatten().filter(|revised| revised.floor > Minute::default()) {
        let passed = revised.at.saturating_sub(history.began).as_secs() / 60;
        if u64::from(revised.floor.bits()) > began + 2 * passed + 1 {
            return Err(format!("revision {} forgets up to {:?} after {passed} min", revised.revision, revised.floor));
        }
    }
    Ok(())
}

/// No check finds what is not revoked, unless a set of an earlier epoch is still in force, or the replica knows that it
/// diverged: then it finds what it hears was ever revoked, and what a lie makes it fear.
pub fn no_false_positive(history: &History) -> Result<(), String> {
    for node in history.nodes() {
        let mut watch = Watch::new(history);
        for record in history.of(node) {
            watch.follow(record);
            let Event::Observed(seen) = &record.event else { continue };
            watch.see(seen);
            let revised = history.revised(seen.at);
            if seen.synced && revised.is_none() {
                return Err(unheard_of(record, seen));
            }
            let is_live = |token: &u32| revised.is_some_and(|revised| revised.revoked.contains(token));
            let may_be = |token: &u32| is_live(token) || watch.may_fear(*token, record.at, seen);
            if let Some(token) = seen.revoked.iter().find(|token| !may_be(token)) {
                return Err(format!("{} at {:?}, {:?}, found {token}", name(node), record.at, seen.at));
            }
        }
    }
    Ok(())
}
