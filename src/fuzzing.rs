//! The narrow door through which fuzz targets reach decoders that are private to their rooms.
//!
//! For `fuzz/` and its replay in `tests/` only: no part of the product calls it, and it promises nothing. Each function reads
//! outside bytes as the product does; where there is one way to write a value, it returns the value written again, so that
//! the caller can compare.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::authority::backup::Manifest;
use crate::authority::ledger::{Live, LiveRevocation, Place, Stack};
use crate::authority::requests::{Remembered, RequestKey};
use crate::authority::snapshot::{self, LiveRow, SnapshotFileError, SnapshotReader, SnapshotWriter, Tail};
use crate::journal::codec::{decode_carried, encode_carried};
use crate::journal::index::token;
use crate::journal::members::{TABLE, put, stored};
use crate::journal::{ExpiryBasis, Identity, SigningSeed, StoredMember};
use crate::replica::cache::read;
use crate::replication::follower::Kept;
use crate::revocation::ports::{
    Caller, Credential, CredentialHash, CredentialId, MemberChoice, Query, ReinstateRequest, RevokeRequest,
};
use crate::revocation::{
    Chain, Entry, Epoch, Fingerprint, Grant, Mark, Minute, Policy, Position, Revision, RevocationId, SetKey, Shape,
    SnapshotBuilder, SnapshotEntry, SnapshotState, Stamp, UnixMillis,
};
use crate::surface::Violations;
use crate::surface::http::{DecodeError, decode};
use crate::surface::parse::{self, Issuers};
use crate::wire::pb;
use crate::{cli, journal};

/// A carried revocation, written again.
#[must_use]
pub fn carried(bytes: &[u8]) -> Option<Vec<u8>> {
    let carried = decode_carried(bytes).ok()?;
    let mut again = Vec::new();
    encode_carried(&carried, &mut again).ok()?;
    Some(again)
}

/// A journal's identity, written again.
#[must_use]
pub fn identity(bytes: &[u8]) -> Option<Vec<u8>> {
    Identity::decode(bytes).ok().map(|identity| identity.encode().to_vec())
}

/// The bytes of a first identity in which everything is drawn from `seed`.
#[must_use]
pub fn sample_identity(seed: u8) -> Vec<u8> {
    sample(seed).encode().to_vec()
}

/// A member as it is read from the columns of its row, and as it is read once it was stored.
#[must_use]
pub fn member(columns: [Value; 10]) -> Option<(StoredMember, StoredMember)> {
    const READ: &str = "SELECT id, name, relay, max_staleness, deny, parent, via, memory, changes, owner FROM members";
    thread_local! {
        static TABLES: RefCell<Option<Connection>> = const { RefCell::new(None) };
    }
    TABLES.with_borrow_mut(|tables| {
        if tables.is_none() {
            let connection = Connection::open_in_memory().ok()?;
            connection.execute_batch(TABLE).ok()?;
            *tables = Some(connection);
        }
        let connection = tables.as_mut()?;
        let row = "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10";
        let read = connection.prepare_cached(row).ok()?.query_row(params_from_iter(columns), stored).ok()?;
        // Dropped without a commit: nothing stays in the table.
        let transaction = connection.transaction().ok()?;
        put(&transaction, &read).ok()?;
        let again = transaction.prepare_cached(READ).ok()?.query_row([], stored).ok()?;
        Some((read, again))
    })
}

/// A page token of a search for everything, under the identity of [`sample_identity`]; made again.
#[must_use]
pub fn page_token(seed: u8, text: &str) -> Option<String> {
    let (identity, query) = (sample(seed), journal::index::Query::default());
    token::parse(&identity, &query, text).ok().map(|last| token::make(&identity, &query, last))
}

/// The page token behind a row.
#[must_use]
pub fn sample_page_token(seed: u8, last: i64) -> String {
    token::make(&sample(seed), &journal::index::Query::default(), last)
}

/// The authority's snapshot in a file: what it brings back, once it is proven.
///
/// # Errors
/// When the file is damaged.
pub fn authority_snapshot(path: &Path, key: &SetKey) -> Result<Stamp, SnapshotFileError> {
    snapshot::load(path, key).map(|loaded| loaded.set.stamp())
}

/// Reads the authority's snapshot in a file, whatever digest it states, and writes what it holds to another; how many rows,
/// requests and credentials that were.
///
/// # Errors
/// When the file is damaged, or the other cannot be written.
pub fn rewrite_authority_snapshot(path: &Path, other: &Path) -> Result<(u64, u64, u64), SnapshotFileError> {
    let mut reader = SnapshotReader::open(path)?;
    let mut rows = Vec::new();
    let header = reader.header().clone();
    while let Some(row) = reader.row()? {
        rows.push(row);
    }
    let Tail { requests, credentials, policies } = reader.finish()?;
    let counts = (rows.len() as u64, requests.len() as u64, credentials.len() as u64);
    let mut writer = SnapshotWriter::create(other, &header)?;
    rows.iter().try_for_each(|row| writer.row(row))?;
    writer.requests(requests.into_iter())?;
    let kept = credentials.into_iter().map(|credential| (credential.id, credential.into())).collect();
    let policies: Vec<_> = policies.into_iter().map(Arc::new).collect();
    writer.finish(&kept, &policies)?;
    Ok(counts)
}

/// Writes a snapshot of live entries, sorted by fingerprint, all of one shape, as the authority would.
///
/// # Errors
/// When the file cannot be written.
pub fn write_authority_snapshot(
    path: &Path,
    key: &SetKey,
    shape: &Shape,
    entries: &[(Fingerprint, Entry)],
) -> Result<(), SnapshotFileError> {
    let (revision, floor, policy) = (Revision(9), Minute::from_bits(1), Policy::default());
    let state = SnapshotState { revision, floor, policy, shapes: vec![shape.clone()], verification: None };
    let mut builder = SnapshotBuilder::new(key, state);
    let rows: Vec<LiveRow> = entries
        .iter()
        .zip(0..)
        .map(|((fingerprint, entry), index)| {
            let live = if index % 2 == 0 { one(index) } else { several(index, entry) };
            LiveRow { fingerprint: *fingerprint, shape: shape.clone(), entry: entry.clone(), live }
        })
        .collect();
    for LiveRow { fingerprint, entry, .. } in &rows {
        let exceptions = entry.exceptions.clone();
        // Out of order, the digest is wrong, and so is the file.
        let _ = builder.push(&SnapshotEntry { fingerprint: *fingerprint, entry: entry.packed(), exceptions });
    }
    let time = UnixMillis(1_700_000_000_000);
    let header = snapshot::Header {
        epoch: sample(1).epoch,
        revision,
        chain: Chain::default(),
        digest: builder.finish().header.digest,
        floor,
        highest_time: time,
        source_time: time,
        policy,
        shapes: vec![shape.clone()],
        verification: None,
    };
    let mut writer = SnapshotWriter::create(path, &header)?;
    rows.iter().try_for_each(|row| writer.row(row))?;
    let remembered = Remembered { body_hash: [2; 32], revision, ordinal: 0 };
    writer.requests([(time, RequestKey([1; 16]), remembered)].into_iter())?;
    let credential = Credential {
        id: CredentialId([3; 8]),
        name: "sample".to_owned(),
        grant: Grant::everything().as_ref().clone(),
        hash: CredentialHash { salt: [4; 16], digest: [5; 32] },
        expires_at: None,
        created_at: time,
        created_by: "sample".to_owned(),
    };
    writer.finish(&[(credential.id, credential.into())].into_iter().collect(), &[])
}

/// What a replica's cache directory holds; nothing of it is verified.
#[must_use]
pub fn cache(dir: &Path, entries_max: u64) -> Option<Kept> {
    read::main(dir, entries_max).map(|(kept, _)| kept)
}

/// A backup's manifest, written again.
#[must_use]
pub fn manifest(text: &str) -> Option<String> {
    Manifest::parse(text).map(|manifest| manifest.render())
}

/// The unix second that an argument of the command line names, when it is now `now`.
#[must_use]
pub fn argument_time(text: &str, now: UnixMillis) -> Option<u64> {
    cli::time::time(text).ok().map(|time| time.seconds(now))
}

/// Whether an argument names a cutoff.
#[must_use]
pub fn is_cutoff(text: &str) -> bool {
    cli::time::cutoff(text).is_ok()
}

/// The JSON twin of a revoke request.
///
/// # Errors
/// When it is no JSON, or has another form.
pub fn json_revoke(json: &[u8]) -> Result<pb::RevokeRequest, DecodeError> {
    decode::revoke_request(json)
}

/// The JSON twin of a reinstate request.
///
/// # Errors
/// As [`json_revoke`].
pub fn json_reinstate(json: &[u8]) -> Result<pb::ReinstateRequest, DecodeError> {
    decode::reinstate_request(json)
}

/// The JSON twin of a search.
///
/// # Errors
/// As [`json_revoke`].
pub fn json_list(json: &[u8]) -> Result<pb::ListRevocationsRequest, DecodeError> {
    decode::list_request(json)
}

/// The JSON twin of a check.
///
/// # Errors
/// As [`json_revoke`].
pub fn json_check(json: &[u8]) -> Result<pb::CheckTokenRequest, DecodeError> {
    decode::check_request(json)
}

/// What a revoke request asks for, with one issuer configured or with several.
///
/// # Errors
/// Everything that is wrong with it, as for all that follow.
pub fn revoke(message: pb::RevokeRequest, several_issuers: bool) -> Result<RevokeRequest, Violations> {
    parse::revoke_request(message, caller(), if several_issuers { Issuers::Several } else { Issuers::One })
}

/// What a reinstate request asks for.
///
/// # Errors
/// As [`revoke`].
pub fn reinstate(message: pb::ReinstateRequest) -> Result<ReinstateRequest, Violations> {
    parse::reinstate_request(message, caller())
}

/// What a search asks for.
///
/// # Errors
/// As [`revoke`].
pub fn list(message: pb::ListRevocationsRequest) -> Result<Query, Violations> {
    parse::list_query(message)
}

/// What a look-up asks for.
///
/// # Errors
/// As [`revoke`].
pub fn look_up(message: &pb::GetRevocationRequest) -> Result<(RevocationId, Option<Position>), Violations> {
    parse::id_query(message)
}

/// Which position is waited for.
///
/// # Errors
/// As [`revoke`].
pub fn await_propagation(message: &pb::AwaitPropagationRequest) -> Result<Position, Violations> {
    parse::await_propagation(message).map(|(position, _)| position)
}

/// Who is to be forgotten.
///
/// # Errors
/// As [`revoke`].
pub fn forget(message: pb::ForgetRequest) -> Result<MemberChoice, Violations> {
    parse::forget(message)
}

/// After which subscriber a page begins, and how many it has.
///
/// # Errors
/// As [`revoke`].
pub fn subscribers(message: &pb::ListSubscribersRequest) -> Result<(Option<[u8; 16]>, usize), Violations> {
    parse::subscribers(message)
}

fn one(index: u32) -> Live {
    Live::one(Place { revision: Revision(7), index }, ExpiryBasis::TokenLifetime)
}

fn several(index: u32, entry: &Entry) -> Live {
    let mark = Mark { cutoff: entry.cutoff, expiry: entry.expiry, spares: Vec::new() };
    let item = |index| LiveRevocation {
        place: Place { revision: Revision(8), index },
        mark: mark.clone(),
        basis: ExpiryBasis::Given,
    };
    Live::Many(Box::new(Stack { base: Some(entry.clone()), items: vec![item(index), item(index + 1)] }))
}

fn sample(seed: u8) -> Identity {
    Identity {
        epoch: Epoch { generation: 1, id: [seed; 16] },
        ancestors: Vec::new(),
        set_key: SetKey::new([seed; 16]),
        signing_seed: SigningSeed::new([seed; 32]),
        format_version: journal::FORMAT_VERSION,
        created_at: UnixMillis(1_700_000_000_000),
    }
}

fn caller() -> Caller {
    Caller { principal: "fuzz".to_owned(), peer: String::new(), grant: Grant::everything() }
}
