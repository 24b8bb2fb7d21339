//! The core: what a revocation is, the set of live ones, and the check.
//!
//! Deterministic: nothing here reads a clock, opens a file, spawns, logs or draws randomness. Time and bytes come in as
//! arguments, results leave as values.

#[cfg(test)]
mod arbitrary;
mod claims;
mod codec;
mod delta;
mod digest;
mod entry;
pub mod exact;
pub mod filter;
mod fingerprint;
pub mod grant;
mod policy;
pub mod ports;
mod position;
pub mod scalar;
mod selector;
mod set;
mod snapshot;
#[doc(hidden)]
pub mod sync;
mod time;
mod verdict;
pub mod verification;

pub use claims::{Claims, Value};
pub use codec::{DecodeError, Reader};
pub use delta::{CHANGES_MAX, Delta, encode_exceptions, read_exceptions};
pub use digest::{Chain, Digest};
pub use entry::{EXCEPTIONS_MAX, Entry, Exception, Mark, PackedEntry, PackedEntryError};
pub use fingerprint::{Fingerprint, SetKey};
pub use grant::Grant;
pub use policy::{LifetimePolicy, Policy, WhenStale};
pub use position::{
    ANCESTORS_MAX, Ancestor, Epoch, Position, PositionError, Revision, RevocationId, RevocationIdError,
};
#[cfg(feature = "server")]
pub(crate) use selector::names_a_key;
pub use selector::{
    CLAIMS_MAX, HEADER_PREFIX, NAME_BYTES_MAX, Selector, SelectorError, Shape, ShapeError, TOKEN_SHA256, TestedClaim,
    VALUE_BYTES_MAX,
};
pub use set::{
    Applied, CANDIDATES_MAX, Finding, Rebuild, RevocationSet, SHAPE_CANDIDATES_MAX, SetWriter, StageError, Stamp,
    UNION_SHAPES_MAX,
};
pub use snapshot::{
    Built, CHUNK_BYTES_MAX, SetBuilder, SnapshotBuilder, SnapshotChanges, SnapshotChunk, SnapshotEntry, SnapshotError,
    SnapshotHeader, SnapshotState,
};
pub use time::{Cutoff, Minute, UnixMillis, UnixSeconds};
pub use verdict::{Hit, UnknownCause, Verdict};
pub use verification::{VerificationPolicy, VersionedPolicy};

/// The most shapes that may be active at once.
pub const SHAPES_MAX: usize = 32;
