//! The durable ordered log of accepted changes, and the index that makes it searchable.
//!
//! One [`Record`] is one revision: the accepted requests, in clear, and the delta they came to. Requests are for people
//! (audit, search, reinstatement), the delta is for machines (replay, replicas). The journal decides nothing: idempotency,
//! limits and refusals lie before it, in the authority.
//!
//! ```text
//! authority ── append ──▶ records ── JournalReader ──▶ replay at start, subscribers that resume, the index
//!                │           │ prune
//!                ▼           ▼
//!       Durable<Position>   carried (revocations that outlive their records)
//! ```
//!
//! # Invariants
//! - J1. [`Durable`] is only made here, and only after the record it speaks of survives a power cut.
//! - J2. Revisions are contiguous: a record is appended at head + 1 or not at all.
//! - J3. Every record is bound to all before it by a checksum; every read checks it. Nothing is repaired or dropped silently.
//! - J4. After an error that leaves the outcome of a write unknown, nothing is written until a restart has looked.
//! - J5. Pruning takes whole records off the old end; what is live in them is carried, and the last record always stays.
//!
//! Identifiers lie here in clear, and the epoch's secrets: files are readable by their owner only.

mod carried;
mod checksum;
pub(crate) mod codec;
#[cfg(test)]
pub(crate) mod contract;
mod credential;
mod error;
mod folder;
mod identity;
pub mod index;
pub(crate) mod members;
#[doc(hidden)]
pub mod memory;
mod pruning;
mod record;
mod sqlite;
mod verification;

use std::sync::Arc;
use std::time::Duration;

pub use carried::{Carried, RevocationKey};
pub use checksum::{Checksum, link};
pub use credential::{CredentialAction, CredentialChange, encode_credential, read_credential};
pub use error::{AppendError, Cause, OpenError, PruneError, ReadError};
pub use folder::create_private_folder;
pub use identity::{DescendError, FORMAT_VERSION, Identity, SigningSeed, accepted_by};
pub use index::Index;
pub use members::{MEMBERS_MAX, MemberChange, MemberTable, MembersError, StoredMember};
pub use record::{
    Action, Body, ExpiryBasis, Extension, PEER_BYTES_MAX, PRINCIPAL_BYTES_MAX, REASON_BYTES_MAX, RECORD_BYTES_MAX,
    REQUEST_ID_BYTES_MAX, REVOCATIONS_MAX, Record, RecordError, Reinstatement, Request, Revocation,
};
pub use sqlite::{
    AuditError, Audited, Copied, EmbeddedJournal, HeldCredentials, JournalFile, Opened, Options, RestoreError,
    Restoring, copy_journal, copy_private,
};
pub use verification::{encode_applied, read_applied};

use crate::revocation::{Minute, Position, Revision, RevocationId, UnixMillis};

/// What the journal has made durable. Only the journal makes one, so no acknowledgement can be built before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    pub(in crate::journal) fn new(value: T) -> Self {
        Self(value)
    }

    /// What is durable.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Durable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// The writing end. It has one owner, the commit thread; calls block until the disk has answered.
pub trait Journal: Send {
    /// Who this journal is: its epoch, its keys.
    fn identity(&self) -> &Identity;

    /// The last durable revision; zero when there is none.
    fn head(&self) -> Revision;

    /// The checksum of the record at the head; before the first, what that one is bound to.
    fn checksum(&self) -> Checksum;

    /// Whether the next record must revoke all credentials: it was restored so.
    fn drops_credentials(&self) -> bool {
        false
    }

    /// Makes one record durable. It must be of revision head + 1.
    ///
    /// # Errors
    /// See [`AppendError`]: each variant says whether the record may be there after all.
    fn append(&mut self, record: &Record) -> Result<Durable<Position>, AppendError>;

    /// A reading end of its own, for any thread. It sees durable records only.
    ///
    /// # Errors
    /// When the store cannot be opened a second time.
    fn reader(&self) -> Result<Arc<dyn JournalReader>, ReadError>;

    /// Takes records off the old end, as far as `limits` allow, and carries what is live in them.
    ///
    /// `live` is asked about every revocation in them (and about those carried before): the expiry it has now, or `None`
    /// when it is reinstated or expired, that is its expiry is at or before the expiry floor.
    ///
    /// # Errors
    /// See [`PruneError`]. Nothing is taken away unless what is carried is durable in the same step.
    fn prune(&mut self, limits: &PruneLimits, live: &LiveExpiry<'_>) -> Result<Pruned, PruneError>;
}

/// Answers with a revocation's present expiry, or `None` when it is no longer live.
pub type LiveExpiry<'a> = dyn Fn(RevocationId, &Revocation) -> Option<Minute> + 'a;

/// A reading end. Every record that comes out has been checked against the one before it.
pub trait JournalReader: Send + Sync {
    /// The records from `from` on, in order, without a gap: as many as fit both bounds, but one at least. Empty past the
    /// head.
    ///
    /// # Errors
    /// [`ReadError::Pruned`] when `from` lies before the oldest record, and as for all that follow.
    fn linked(&self, from: Revision, bytes_max: usize, records_max: usize) -> Result<Vec<Linked>, ReadError>;

    /// The same without the checksums.
    ///
    /// # Errors
    /// As [`JournalReader::linked`].
    fn read(&self, from: Revision, bytes_max: usize, records_max: usize) -> Result<Vec<Record>, ReadError> {
        Ok(self.linked(from, bytes_max, records_max)?.into_iter().map(|linked| linked.record).collect())
    }

    /// One record; `None` past the head.
    ///
    /// # Errors
    /// As [`JournalReader::read`].
    fn record(&self, revision: Revision) -> Result<Option<Record>, ReadError> {
        Ok(self.read(revision, 0, 1)?.pop())
    }

    /// The oldest revision that can be read; head + 1 while there is none.
    ///
    /// # Errors
    /// When the store fails or is corrupt.
    fn oldest(&self) -> Result<Revision, ReadError>;

    /// The last durable revision; zero while there is none.
    ///
    /// # Errors
    /// As [`JournalReader::oldest`].
    fn head(&self) -> Result<Revision, ReadError>;

    /// Revocations whose records are pruned and that were live when last looked at, by rising key, at most `max`.
    ///
    /// # Errors
    /// As [`JournalReader::oldest`].
    fn carried(&self, after: Option<RevocationKey>, max: usize) -> Result<Vec<Carried>, ReadError>;
}

/// A record with the checksum that binds it to all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The checksum.
    pub checksum: Checksum,
    /// The record.
    pub record: Record,
}

/// How far pruning may go.
#[derive(Clone, Copy, Debug)]
pub struct PruneLimits {
    /// No record after this one: the last durable snapshot of the set, without which a start would need older ones.
    pub through: Revision,
    /// The log's time.
    pub now: UnixMillis,
    /// How long a record is kept for audit, counted from its `source_time`.
    pub retention: Duration,
    /// The most records, and the most carried revocations, looked at in this call: it blocks the commit thread.
    pub records_max: usize,
}

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Records taken away.
    pub records: usize,
    /// Revocations of theirs that were carried.
    pub carried: usize,
    /// Revocations carried earlier that are no longer live and were let go.
    pub released: usize,
    /// Whether the limits would allow more at once.
    pub more: bool,
}
