//! Deltas that fit, made by somebody who holds the set key and not the authority's.

use std::collections::BTreeMap;

use rescind::replication::frames::{DeltaFrame, Heartbeat, ToSubscriber};
use rescind::replication::{Random, Signature};
use rescind::revocation::{Cutoff, Delta, Digest, Fingerprint, Minute, PackedEntry, Revision, SetKey, UnixSeconds};

use crate::link::chance;
use crate::token;

/// What is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// An entry that nobody revoked.
    Invent,
    /// The removal of an entry.
    Remove,
    /// An entry whose cutoff and expiry are earlier.
    Weaken,
    /// A revision that changes nothing; those behind it are renumbered.
    Idle,
    /// A delta is left out, and those behind it are renumbered.
    Drop,
}

/// Keeps its story straight: every delta after the first forged one states the digest and the revision that follow from it.
pub struct Forger {
    key: Option<SetKey>,
    /// Entries without exceptions, as sent on this connection.
    known: BTreeMap<[u8; 16], PackedEntry>,
    digest: Digest,
    last: Option<Signature>,
    story: Option<Story>,
    signs: Signs,
}

/// What the subscriber is led to believe, against the truth.
#[derive(Clone, Copy)]
struct Story {
    plus: Digest,
    minus: Digest,
    later: i64,
}

/// Under which signature forged deltas come.
#[derive(Clone, Copy)]
enum Signs {
    /// The one of the true delta.
    True,
    /// The one of the delta before.
    Before,
    Never,
}

impl Forger {
    pub fn new(random: &mut Random) -> Self {
        let signs = [Signs::True, Signs::Before, Signs::Never][(random.next_u64() % 3) as usize];
        Self { key: None, known: BTreeMap::new(), digest: Digest::default(), last: None, story: None, signs }
    }

    /// What is sent instead of a frame; `None`: the same.
    pub fn twist(&mut self, forgery: Forgery, frame: ToSubscriber, random: &mut Random) -> Option<Vec<ToSubscriber>> {
        match frame {
            ToSubscriber::Welcome(welcome) => {
                self.key = Some(welcome.set_key);
                None
            }
            ToSubscriber::Delta(frame) => self.twist_delta(forgery, frame, random),
            // It cannot sign another one, and the true one would give it away at once.
            ToSubscriber::Heartbeat(heartbeat) => {
                let story = self.story?;
                let told = Heartbeat {
                    revision: renumbered(heartbeat.revision, story.later),
                    digest: heartbeat.digest.plus(story.plus).minus(story.minus),
                    ..heartbeat
                };
                Some(if chance(random, 0.5) { vec![ToSubscriber::Heartbeat(told)] } else { Vec::new() })
            }
            _ => None,
        }
    }

    fn twist_delta(&mut self, forgery: Forgery, frame: DeltaFrame, random: &mut Random) -> Option<Vec<ToSubscriber>> {
        let mut delta = Delta::decode(&frame.canonical).unwrap();
        let before = std::mem::replace(&mut self.digest, delta.digest_after);
        let last = std::mem::replace(&mut self.last, frame.signature);
        let known = self.known.clone();
        self.learn(&delta);
        let mut told: Vec<Delta> = Vec::new();
        match self.story {
            Some(story) => retell(&mut delta, story),
            // The first delta of a connection comes without what lies before it.
            None if before == Digest::default() || !chance(random, 0.2) => return None,
            None => {
                let story = self.begin(forgery, &mut delta, before, &known)?;
                self.story = Some(story);
                if forgery == Forgery::Drop {
                    return Some(Vec::new());
                }
                if forgery == Forgery::Idle {
                    // The floor rarely moves; where it does, this one does not fit.
                    let idle = Delta::empty(delta.revision, delta.source_time, delta.floor);
                    told.push(Delta { digest_after: before, ..idle });
                    retell(&mut delta, story);
                }
            }
        }
        told.push(delta);
        let signature = match self.signs {
            Signs::True => frame.signature,
            Signs::Before => last,
            Signs::Never => None,
        };
        let framed = |delta: Delta| {
            ToSubscriber::Delta(DeltaFrame { canonical: delta.encode().into(), signature, ack_now: frame.ack_now })
        };
        Some(told.into_iter().map(framed).collect())
    }

    /// Makes the first false delta; what is told from there on.
    fn begin(
        &self,
        forgery: Forgery,
        delta: &mut Delta,
        before: Digest,
        known: &BTreeMap<[u8; 16], PackedEntry>,
    ) -> Option<Story> {
        let key = self.key.as_ref()?;
        let none = Story { plus: Digest::default(), minus: Digest::default(), later: 0 };
        let untouched = |delta: &Delta, fingerprint: &Fingerprint| {
            delta.upserts.iter().all(|(other, _)| other != fingerprint) && !delta.removals.contains(fingerprint)
        };
        let story = match forgery {
            Forgery::Invent => {
                let fingerprint = key.fingerprint(&token::selector(token::SUBJECTS));
                let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
                insert(delta, fingerprint, entry);
                Story { plus: Digest::of_entry(key, fingerprint, entry, &[]), ..none }
            }
            Forgery::Remove | Forgery::Weaken => {
                let (bytes, entry) =
                    known.iter().find(|(bytes, _)| untouched(delta, &Fingerprint::from_bytes(**bytes)))?;
                let fingerprint = Fingerprint::from_bytes(*bytes);
                let minus = Digest::of_entry(key, fingerprint, *entry, &[]);
                if forgery == Forgery::Remove {
                    let at = delta.removals.partition_point(|other| *other < fingerprint);
                    delta.removals.insert(at, fingerprint);
                    Story { minus, ..none }
                } else {
                    let weaker = PackedEntry::new(Cutoff::at(UnixSeconds(1))?, entry.expiry(), false);
                    insert(delta, fingerprint, weaker);
                    Story { plus: Digest::of_entry(key, fingerprint, weaker, &[]), minus, ..none }
                }
            }
            Forgery::Idle => Story { later: 1, ..none },
            Forgery::Drop => Story { plus: before, minus: delta.digest_after, later: -1 },
        };
        if matches!(forgery, Forgery::Invent | Forgery::Remove | Forgery::Weaken) {
            delta.digest_after = delta.digest_after.plus(story.plus).minus(story.minus);
        }
        Some(story)
    }

    fn learn(&mut self, delta: &Delta) {
        for (fingerprint, entry) in &delta.upserts {
            match entry.has_exceptions() {
                true => self.known.remove(&fingerprint.to_bytes()),
                false => self.known.insert(fingerprint.to_bytes(), *entry),
            };
        }
        for fingerprint in &delta.removals {
            self.known.remove(&fingerprint.to_bytes());
        }
    }
}

fn retell(delta: &mut Delta, story: Story) {
    delta.revision = renumbered(delta.revision, story.later);
    delta.digest_after = delta.digest_after.plus(story.plus).minus(story.minus);
}

fn renumbered(revision: Revision, later: i64) -> Revision {
    Revision(revision.0.saturating_add_signed(later))
}

fn insert(delta: &mut Delta, fingerprint: Fingerprint, entry: PackedEntry) {
    let at = delta.upserts.partition_point(|(other, _)| *other < fingerprint);
    delta.upserts.insert(at, (fingerprint, entry));
}
