//! The shared log of framed bytes: every delta encoded once, heartbeats in their place behind the deltas.
//!
//! Bounded by bytes; what falls out of it is in the history. It never waits for a reader: readers hold cursors.
//!
//! # Invariants
//! - L1. Revisions are contiguous.
//! - L2. A heartbeat stands behind every delta up to its revision, and before the next one.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::revocation::{Chain, Digest, Minute, Revision};

/// What an entry costs besides its frame, in bytes.
const ENTRY_OVERHEAD: usize = size_of::<LogEntry>();

/// One published revision.
#[derive(Clone, Debug)]
pub struct LogEntry {
    /// Where the state stands after it.
    pub point: LogPoint,
    /// The encoded delta.
    pub frame: Bytes,
}

/// A state of the log, as heartbeats state it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPoint {
    /// The revision.
    pub revision: Revision,
    /// The digest at it.
    pub digest: Digest,
    /// The chain at it.
    pub chain: Chain,
    /// The expiry floor at it.
    pub floor: Minute,
}

/// What a reader has read: a revision, and the last heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Everything up to here.
    pub revision: Revision,
    /// The number of the last heartbeat.
    pub beat: u64,
}

/// What a cursor finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRead {
    /// Frames in order, each with the cursor after it. None at the end of the log.
    Frames(Vec<(Bytes, Cursor)>),
    /// The revision after the cursor is no longer in the log.
    BeforeLog,
}

/// The entry is not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {given} cannot follow {head} in the log")]
pub struct LogError {
    /// The last revision of the log.
    pub head: Revision,
    /// The one offered.
    pub given: Revision,
}

/// The last revisions of an epoch, framed.
#[derive(Debug)]
pub struct FramedLog {
    /// Where the log begins: the state before its first entry.
    base: Slot,
    entries: VecDeque<Slot>,
    bytes: usize,
    bytes_max: usize,
    beats: u64,
}

#[derive(Debug)]
struct Slot {
    point: LogPoint,
    frame: Bytes,
    /// The last heartbeat at this revision, and its number.
    beat: Option<(u64, Bytes)>,
    /// The bytes of all entries up to this one, since the process began.
    end: u64,
}

impl Slot {
    fn beat_bytes(&self) -> usize {
        self.beat.as_ref().map_or(0, |(_, frame)| frame.len())
    }
}

impl FramedLog {
    /// An empty log that goes on from `base` and keeps about `bytes_max` bytes; at least the last entry is kept.
    #[must_use]
    pub fn new(base: LogPoint, bytes_max: usize) -> Self {
        let base = Slot { point: base, frame: Bytes::new(), beat: None, end: 0 };
        Self { base, entries: VecDeque::new(), bytes: 0, bytes_max, beats: 0 }
    }

    /// Appends the next revision.
    ///
    /// # Errors
    /// When it is not the next one; nothing is changed.
    pub fn push(&mut self, entry: LogEntry) -> Result<(), LogError> {
        let head = self.head().revision;
        if entry.point.revision != head.next() {
            return Err(LogError { head, given: entry.point.revision });
        }
        let cost = entry.frame.len() + ENTRY_OVERHEAD;
        let end = self.entries.back().unwrap_or(&self.base).end + cost as u64;
        self.entries.push_back(Slot { point: entry.point, frame: entry.frame, beat: None, end });
        self.bytes += cost;
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            let Some(first) = self.entries.pop_front() else { break };
            self.bytes -= first.frame.len() + ENTRY_OVERHEAD + self.base.beat_bytes();
            self.base = Slot { frame: Bytes::new(), ..first };
        }
        Ok(())
    }

    /// Puts a heartbeat behind the last revision, in the place of an earlier one there.
    pub fn push_heartbeat(&mut self, frame: Bytes) {
        self.beats += 1;
        let slot = self.entries.back_mut().unwrap_or(&mut self.base);
        self.bytes -= slot.beat_bytes();
        slot.beat = Some((self.beats, frame));
        self.bytes += slot.beat_bytes();
    }

    /// Where the log ends.
    #[must_use]
    pub fn head(&self) -> LogPoint {
        self.entries.back().unwrap_or(&self.base).point
    }

    /// The last revision before the log.
    #[must_use]
    pub fn base(&self) -> Revision {
        self.base.point.revision
    }

    /// How many bytes are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many bytes came after a revision; `None` when it is no longer known.
    #[must_use]
    pub fn bytes_since(&self, revision: Revision) -> Option<u64> {
        let end = self.entries.back().unwrap_or(&self.base).end;
        self.slot(revision).map(|slot| end - slot.end)
    }

    /// The state at a revision that is still known.
    #[must_use]
    pub fn point_at(&self, revision: Revision) -> Option<LogPoint> {
        self.slot(revision).map(|slot| slot.point)
    }

    /// What comes after `cursor`: at least one frame if there is one, then more until about `bytes_max`.
    #[must_use]
    pub fn read(&self, cursor: Cursor, bytes_max: usize) -> LogRead {
        let Some(back) = cursor.revision.0.checked_sub(self.base.point.revision.0) else { return LogRead::BeforeLog };
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut at = cursor;
        let mut take = |frame: &Bytes, after: Cursor| {
            bytes += frame.len();
            frames.push((frame.clone(), after));
            bytes >= bytes_max
        };
        let skip = usize::try_from(back).unwrap_or(usize::MAX);
        for slot in std::iter::once(&self.base).chain(&self.entries).skip(skip) {
            if slot.point.revision > at.revision {
                at.revision = slot.point.revision;
                if take(&slot.frame, at) {
                    break;
                }
            }
            if let Some((number, frame)) = slot.beat.as_ref().filter(|(number, _)| *number > at.beat) {
                at.beat = *number;
                if take(frame, at) {
                    break;
                }
            }
        }
        LogRead::Frames(frames)
    }

    fn slot(&self, revision: Revision) -> Option<&Slot> {
        match revision.0.checked_sub(self.base.point.revision.0)? {
            0 => Some(&self.base),
            after => self.entries.get(usize::try_from(after - 1).ok()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(revision: u64) -> LogPoint {
        LogPoint {
            revision: Revision(revision),
            digest: Digest::from_bytes([revision as u8; 16]),
            chain: Chain::default(),
            floor: Minute::default(),
        }
    }

    fn entry(revision: u64) -> LogEntry {
        LogEntry { point: point(revision), frame: Bytes::from(format!("d{revision}")) }
    }

    fn log(revisions: std::ops::RangeInclusive<u64>, bytes_max: usize) -> FramedLog {
        let mut log = FramedLog::new(point(revisions.start() - 1), bytes_max);
        revisions.for_each(|revision| log.push(entry(revision)).unwrap());
        log
    }

    fn texts(read: LogRead) -> Vec<String> {
        let LogRead::Frames(frames) = read else { panic!("before the log") };
        frames.iter().map(|(frame, _)| String::from_utf8_lossy(frame).into_owned()).collect()
    }

    #[test]
    fn a_reader_gets_deltas_and_heartbeats_in_order_and_each_once() {
        let mut log = log(1..=2, 1 << 20);
        log.push_heartbeat("h2".into());
        log.push(entry(3)).unwrap();
        log.push_heartbeat("old".into());
        log.push_heartbeat("h3".into());
        let LogRead::Frames(frames) = log.read(Cursor::default(), 1 << 20) else { panic!() };
        assert_eq!(texts(LogRead::Frames(frames.clone())), ["d1", "d2", "h2", "d3", "h3"]);
        for (index, (_, cursor)) in frames.iter().enumerate() {
            let rest = texts(log.read(*cursor, 1 << 20));
            assert_eq!(rest, texts(LogRead::Frames(frames[index + 1..].to_vec())));
        }
        log.push_heartbeat("h3b".into());
        assert_eq!(texts(log.read(frames[4].1, 1 << 20)), ["h3b"]);
    }

    #[test]
    fn a_read_is_bounded_but_makes_progress() {
        let log = log(1..=9, 1 << 20);
        assert_eq!(texts(log.read(Cursor::default(), 1)), ["d1"]);
        assert_eq!(texts(log.read(Cursor::default(), 4)), ["d1", "d2"]);
    }

    #[test]
    fn only_the_next_revision_is_taken() {
        let mut log = log(1..=2, 1 << 20);
        for given in [1, 2, 4] {
            assert_eq!(log.push(entry(given)), Err(LogError { head: Revision(2), given: Revision(given) }));
        }
        assert_eq!(log.head(), point(2));
    }

    #[test]
    fn the_log_forgets_its_beginning_and_says_so() {
        let kept = 3;
        let log = log(1..=20, kept * (ENTRY_OVERHEAD + 3));
        assert_eq!(log.base(), Revision(17));
        assert!(log.bytes() <= kept * (ENTRY_OVERHEAD + 3));
        assert_eq!(log.read(Cursor { revision: Revision(16), beat: 0 }, 100), LogRead::BeforeLog);
        assert_eq!(texts(log.read(Cursor { revision: Revision(17), beat: 0 }, 100)), ["d18", "d19", "d20"]);
        assert_eq!(log.point_at(Revision(17)), Some(point(17)));
        assert_eq!(log.point_at(Revision(16)), None);
        assert_eq!(log.point_at(Revision(21)), None);
        assert_eq!(log.bytes_since(Revision(17)), Some(log.bytes() as u64));
        assert_eq!(log.bytes_since(Revision(20)), Some(0));
    }
}
