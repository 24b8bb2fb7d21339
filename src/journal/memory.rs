//! A journal in memory with a disk that can fail, for tests and simulations. It is no store: nothing survives the process.
//!
//! [`MemoryDisk`] is what outlives a crash; a [`MemoryJournal`] is one run of a server on it. The disk has a cache: a
//! record is in the cache when written and on the disk when synced, and a power cut loses what was not synced, or leaves
//! a part of it, which a start tells by its checksum from a record.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::carried::{Carried, RevocationKey};
use super::checksum::{self, Checksum};
use super::error::{AppendError, OpenError, PruneError, ReadError};
use super::identity::Identity;
use super::record::Record;
use super::{Durable, Journal, JournalReader, Linked, LiveExpiry, PruneLimits, Pruned, pruning};
use crate::revocation::{Position, Revision};

/// What the next write meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No space.
    Full,
    /// A read-only file system.
    ReadOnly,
    /// The write reaches the cache and its sync fails.
    Sync,
}

/// What outlives a crash. Cheap to clone: all clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    identity: Identity,
    platter: Arc<Mutex<Platter>>,
}

#[derive(Debug)]
struct Platter {
    records: BTreeMap<Revision, Stored>,
    /// Written, and not synced.
    cache: Option<(Revision, Stored)>,
    carried: BTreeMap<RevocationKey, Carried>,
    pruned: (Revision, Checksum),
    fault: Option<Fault>,
}

#[derive(Clone, Debug)]
struct Stored {
    checksum: Checksum,
    bytes: Vec<u8>,
}

/// The writing end of one run.
#[derive(Debug)]
pub struct MemoryJournal {
    disk: MemoryDisk,
    head: Revision,
    checksum: Checksum,
    poisoned: bool,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let platter = Platter {
            records: BTreeMap::new(),
            cache: None,
            carried: BTreeMap::new(),
            pruned: (Revision(0), identity.anchor()),
            fault: None,
        };
        Self { identity, platter: Arc::new(Mutex::new(platter)) }
    }

    /// Starts a run: what the cache holds is read back like everything else, and written again. The last record, torn before
    /// it was synced, was never there: only of that one is a wrong checksum no corruption.
    ///
    /// # Errors
    /// [`OpenError::Corrupt`] when a record is not what was written.
    pub fn open(&self) -> Result<MemoryJournal, OpenError> {
        let (head, checksum) = {
            let mut platter = self.platter.lock();
            let before = platter.head().1;
            if let Some((revision, stored)) = platter.cache.take()
                && checksum::link(&before, revision, &stored.bytes) == stored.checksum
            {
                platter.records.insert(revision, stored);
            }
            platter.fault = None;
            platter.head()
        };
        let reader = MemoryReader(self.clone());
        let read = reader.oldest().and_then(|oldest| reader.read(oldest, usize::MAX, usize::MAX));
        match read {
            Ok(_) => Ok(MemoryJournal { disk: self.clone(), head, checksum, poisoned: false }),
            Err(ReadError::Corrupt { revision, what }) => Err(OpenError::Corrupt { revision, what }),
            Err(error) => Err(OpenError::Corrupt { revision: head, what: error.to_string() }),
        }
    }

    /// Makes the next write fail, and all after it until a restart, unless the fault is cleared.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.platter.lock().fault = fault;
    }

    /// The power fails: what was not synced is gone.
    pub fn cut_power(&self) {
        self.platter.lock().cache = None;
    }

    /// The power fails in the middle of a write: of the record that was not synced its first `kept` bytes are there.
    pub fn tear(&self, kept: usize) {
        if let Some((_, stored)) = &mut self.platter.lock().cache {
            let kept = kept.min(stored.bytes.len().saturating_sub(1));
            stored.bytes.truncate(kept);
        }
    }

    /// A disk of its own with what is durable on this one, for the journal of `identity`: a backup under the identity of
    /// this one, a restored backup under one that descends from it.
    #[must_use]
    pub fn copy(&self, identity: Identity) -> Self {
        let platter = self.platter.lock();
        let (records, carried) = (platter.records.clone(), platter.carried.clone());
        let copy = Platter { records, cache: None, carried, pruned: platter.pruned, fault: None };
        Self { identity, platter: Arc::new(Mutex::new(copy)) }
    }

    /// Flips one bit of a stored record, wherever `byte` falls; for tests of recovery.
    pub fn flip_bit(&self, revision: Revision, byte: usize) {
        if let Some(stored) = self.platter.lock().records.get_mut(&revision) {
            let length = stored.bytes.len();
            stored.bytes[byte % length] ^= 1;
        }
    }
}

impl Platter {
    fn head(&self) -> (Revision, Checksum) {
        self.records.last_key_value().map_or(self.pruned, |(revision, stored)| (*revision, stored.checksum))
    }

    fn write_fault(&self) -> Option<AppendError> {
        match self.fault {
            Some(Fault::Full) => Some(AppendError::Full),
            Some(Fault::ReadOnly) => Some(AppendError::ReadOnly),
            Some(Fault::Sync) | None => None,
        }
    }
}

impl MemoryJournal {
    fn poison(&mut self) -> AppendError {
        self.poisoned = true;
        AppendError::Poisoned("a sync failed".into())
    }
}

impl Journal for MemoryJournal {
    fn identity(&self) -> &Identity {
        &self.disk.identity
    }

    fn head(&self) -> Revision {
        self.head
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }

    fn append(&mut self, record: &Record) -> Result<Durable<Position>, AppendError> {
        if self.poisoned {
            return Err(self.poison());
        }
        if record.revision != self.head.next() {
            return Err(AppendError::OutOfOrder { head: self.head, given: record.revision });
        }
        let bytes = record.encode()?;
        let checksum = checksum::link(&self.checksum, record.revision, &bytes);
        let stored = Stored { checksum, bytes };
        {
            let mut platter = self.disk.platter.lock();
            if let Some(error) = platter.write_fault() {
                return Err(error);
            }
            if platter.fault == Some(Fault::Sync) {
                platter.cache = Some((record.revision, stored));
                drop(platter);
                return Err(self.poison());
            }
            platter.records.insert(record.revision, stored);
        }
        (self.head, self.checksum) = (record.revision, checksum);
        Ok(Durable::new(Position { epoch: self.disk.identity.epoch.id, revision: record.revision }))
    }

    fn reader(&self) -> Result<Arc<dyn JournalReader>, ReadError> {
        Ok(Arc::new(MemoryReader(self.disk.clone())))
    }

    fn prune(&mut self, limits: &PruneLimits, live: &LiveExpiry<'_>) -> Result<Pruned, PruneError> {
        if self.poisoned {
            return Err(self.poison().into());
        }
        let cut = pruning::plan(&MemoryReader(self.disk.clone()), &self.disk.identity, limits, live)?;
        let mut platter = self.disk.platter.lock();
        if let Some(error) = platter.write_fault() {
            return Err(error.into());
        }
        let before = platter.carried.len();
        platter.carried.retain(|_, carried| live(carried.id, &carried.revocation).is_some());
        for key in &cut.undone {
            platter.carried.remove(key);
        }
        let released = before - platter.carried.len();
        for extension in &cut.extended {
            if let Some(carried) = platter.carried.get_mut(&pruning::key(&extension.id)) {
                carried.expiry = extension.expiry;
            }
        }
        let carried = cut.carry.len();
        platter.carried.extend(cut.carry.into_iter().map(|carried| (carried.key(), carried)));
        if let Some(last) = &cut.last {
            if let Some(stored) = platter.records.get(&last.revision) {
                platter.pruned = (last.revision, stored.checksum);
            }
            platter.records = platter.records.split_off(&last.revision.next());
        }
        Ok(Pruned { records: cut.records, carried, released, more: cut.more })
    }
}

#[derive(Debug)]
struct MemoryReader(MemoryDisk);

impl JournalReader for MemoryReader {
    fn linked(&self, from: Revision, bytes_max: usize, records_max: usize) -> Result<Vec<Linked>, ReadError> {
        let platter = self.0.platter.lock();
        let mut expected = Revision(from.0.max(1));
        let (through, mut before) = platter.pruned;
        if expected <= through {
            return Err(ReadError::Pruned { oldest: through.next() });
        }
        if let Some(stored) = platter.records.get(&Revision(expected.0 - 1)) {
            before = stored.checksum;
        }
        let mut records = Vec::new();
        let mut bytes_left = bytes_max;
        for (revision, stored) in platter.records.range(expected..).take(records_max.max(1)) {
            if !records.is_empty() && stored.bytes.len() > bytes_left {
                break;
            }
            bytes_left = bytes_left.saturating_sub(stored.bytes.len());
            let corrupt = |what: &str| ReadError::Corrupt { revision: expected, what: what.to_owned() };
            if *revision != expected {
                return Err(corrupt("the record is missing"));
            }
            if checksum::link(&before, expected, &stored.bytes) != stored.checksum {
                return Err(corrupt("the record does not have its checksum"));
            }
            let record = Record::decode(&stored.bytes).map_err(|error| corrupt(&error.to_string()))?;
            records.push(Linked { checksum: stored.checksum, record });
            before = stored.checksum;
            expected = expected.next();
        }
        Ok(records)
    }

    fn oldest(&self) -> Result<Revision, ReadError> {
        Ok(self.0.platter.lock().pruned.0.next())
    }

    fn head(&self) -> Result<Revision, ReadError> {
        Ok(self.0.platter.lock().head().0)
    }

    fn carried(&self, after: Option<RevocationKey>, max: usize) -> Result<Vec<Carried>, ReadError> {
        let platter = self.0.platter.lock();
        let behind = platter.carried.iter().filter(|(key, _)| after.is_none_or(|after| **key > after));
        Ok(behind.take(max).map(|(_, carried)| carried.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::contract::{self, sample};
    use crate::revocation::UnixMillis;

    fn disk() -> MemoryDisk {
        MemoryDisk::new(Identity::generate(UnixMillis(1)).unwrap())
    }

    #[test]
    fn memory_keeps_the_contract() {
        contract::check_all(|| {
            let disk = disk();
            Box::new(move || Box::new(disk.open().unwrap()) as Box<dyn Journal>)
        });
    }

    #[test]
    fn full_and_read_only_disks_refuse_and_recover() {
        let disk = disk();
        let mut journal = disk.open().unwrap();
        for (fault, is_expected) in [
            (Fault::Full, (|error| matches!(error, AppendError::Full)) as fn(&AppendError) -> bool),
            (Fault::ReadOnly, |error| matches!(error, AppendError::ReadOnly)),
        ] {
            disk.set_fault(Some(fault));
            let record = sample::revoking(journal.head().next(), 2);
            assert!(is_expected(&journal.append(&record).unwrap_err()), "{fault:?}");
            disk.set_fault(None);
            assert_eq!(journal.append(&record).unwrap().revision, record.revision);
        }
    }

    #[test]
    fn a_failed_sync_poisons_until_restart_and_either_outcome_is_possible() {
        for (power_cut, head) in [(false, 2), (true, 1)] {
            let disk = disk();
            let mut journal = disk.open().unwrap();
            let _ = journal.append(&sample::revoking(Revision(1), 1)).unwrap();
            disk.set_fault(Some(Fault::Sync));
            let record = sample::revoking(Revision(2), 1);
            assert!(matches!(journal.append(&record), Err(AppendError::Poisoned(_))));
            disk.set_fault(None);
            assert!(matches!(journal.append(&record), Err(AppendError::Poisoned(_))));
            assert_eq!(journal.reader().unwrap().head().unwrap(), Revision(1));
            if power_cut {
                disk.cut_power();
            }
            assert_eq!(disk.open().unwrap().head(), Revision(head));
        }
    }

    #[test]
    fn a_record_torn_before_it_was_synced_was_never_there_and_the_journal_goes_on() {
        for kept in [0, 1, 30, usize::MAX] {
            let disk = disk();
            let mut journal = disk.open().unwrap();
            let _ = journal.append(&sample::revoking(Revision(1), 1)).unwrap();
            disk.set_fault(Some(Fault::Sync));
            let record = sample::revoking(Revision(2), 3);
            assert!(matches!(journal.append(&record), Err(AppendError::Poisoned(_))));
            disk.tear(kept);
            let mut journal = disk.open().unwrap();
            assert_eq!(journal.head(), Revision(1), "{kept} bytes kept");
            assert_eq!(journal.append(&record).unwrap().revision, Revision(2));
            assert_eq!(disk.open().unwrap().head(), Revision(2));
        }
    }

    #[test]
    fn a_copy_is_another_disk_and_goes_on_as_the_journal_it_is_said_to_be() {
        let disk = disk();
        let mut journal = disk.open().unwrap();
        let _ = journal.append(&sample::revoking(Revision(1), 1)).unwrap();
        let child = journal.identity().descend(Revision(1)).unwrap();
        let copy = disk.copy(child.clone());
        let _ = journal.append(&sample::revoking(Revision(2), 1)).unwrap();
        let mut restored = copy.open().unwrap();
        assert_eq!((restored.head(), restored.identity()), (Revision(1), &child));
        let position = restored.append(&sample::revoking(Revision(2), 3)).unwrap();
        assert_eq!((position.epoch, position.revision), (child.epoch.id, Revision(2)));
        assert_eq!(disk.open().unwrap().head(), Revision(2));
    }

    #[test]
    fn a_flipped_bit_is_found_at_start() {
        let disk = disk();
        let mut journal = disk.open().unwrap();
        for revision in 1..=3 {
            let _ = journal.append(&sample::revoking(Revision(revision), 1)).unwrap();
        }
        disk.flip_bit(Revision(2), 60);
        assert!(matches!(disk.open(), Err(OpenError::Corrupt { revision: Revision(2), .. })));
    }
}
