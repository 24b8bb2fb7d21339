//! The bytes of a record (`docs/design/journal.md`): little-endian, length-prefixed, one way to write each record.

use std::sync::Arc;

use super::carried::Carried;
use super::credential::CredentialChange;
use super::record::{
    Action, Body, ExpiryBasis, Extension, PEER_BYTES_MAX, PRINCIPAL_BYTES_MAX, REASON_BYTES_MAX, RECORD_BYTES_MAX,
    REQUEST_ID_BYTES_MAX, REVOCATIONS_MAX, Record, RecordError, Reinstatement, Request, Revocation,
};
use super::verification::{encode_applied, read_applied};
use crate::revocation::{
    CLAIMS_MAX, Chain, DecodeError, EXCEPTIONS_MAX, Mark, PackedEntry, Policy, Reader, Revision, RevocationId,
    Selector, TestedClaim, UnixMillis,
};

/// The version of the encoding, the first byte of each record: the oldest that can say what the record says.
const VERSION: u8 = 1;
/// The version that knows of credentials, and from where a policy was changed.
const VERSION_2: u8 = 2;
/// The version that knows of verification policies.
const VERSION_3: u8 = 3;
/// The longest program version, in bytes.
const BUILD_BYTES_MAX: usize = 255;
/// The fewest bytes an encoded revocation, reinstatement, request or extension has, to judge a count by.
const ITEM_BYTES_MIN: usize = 4;

impl Record {
    /// The bytes that are kept.
    ///
    /// # Errors
    /// [`RecordError`] when a field is over its limit or the delta is that of another revision.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut out = Vec::with_capacity(256 + self.delta.len() * 8);
        out.push(version(&self.body));
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.chain_after.0);
        encode_body(&self.body, &mut out)?;
        if self.delta_word(0) != Some(self.revision.0.to_le_bytes()) {
            return Err(RecordError::ForeignDelta);
        }
        check("delta", "bytes", self.delta.len(), RECORD_BYTES_MAX)?;
        put_count(self.delta.len(), &mut out);
        out.extend_from_slice(&self.delta);
        check("record", "bytes", out.len(), RECORD_BYTES_MAX)?;
        Ok(out)
    }

    /// The inverse of [`Record::encode`]. The delta is not looked into beyond its revision.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are not what [`Record::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let found = reader.u8()?;
        if !(VERSION..=VERSION_3).contains(&found) {
            return Err(RecordError::Version(found));
        }
        let revision = Revision(reader.u64()?);
        let chain_after = Chain(reader.array()?);
        let body = read_body(&mut reader, found)?;
        if version(&body) != found {
            return Err(DecodeError::Invalid("record version").into());
        }
        let length = reader.count(RECORD_BYTES_MAX, 1, "delta bytes")?;
        let delta = reader.take(length)?.to_vec();
        reader.finish()?;
        let record = Self { revision, chain_after, body, delta };
        if record.delta_word(0) != Some(revision.0.to_le_bytes()) {
            return Err(RecordError::ForeignDelta);
        }
        Ok(record)
    }
}

fn version(body: &Body) -> u8 {
    match body {
        Body::Verification(_) => VERSION_3,
        Body::Credentials(_) => VERSION_2,
        Body::Policy { peer, .. } if !peer.is_empty() => VERSION_2,
        Body::Start { .. } | Body::Tick | Body::Policy { .. } | Body::Requests(_) | Body::Extend(_) => VERSION,
    }
}

/// u32le prefix ‖ u64le revision ‖ u32le index ‖ u32le expiry ‖ principal ‖ peer ‖ u64le received at ‖ revocation.
pub(crate) fn encode_carried(carried: &Carried, out: &mut Vec<u8>) -> Result<(), RecordError> {
    encode_id(&carried.id, out);
    out.extend_from_slice(&carried.expiry.bits().to_le_bytes());
    put_text("principal", &carried.principal, PRINCIPAL_BYTES_MAX, out)?;
    put_text("peer", &carried.peer, PEER_BYTES_MAX, out)?;
    out.extend_from_slice(&carried.received_at.0.to_le_bytes());
    encode_revocation(&carried.revocation, out)
}

pub(crate) fn decode_carried(bytes: &[u8]) -> Result<Carried, DecodeError> {
    let mut reader = Reader::new(bytes);
    let carried = Carried {
        id: read_id(&mut reader)?,
        expiry: reader.minute()?,
        principal: read_text(&mut reader, PRINCIPAL_BYTES_MAX, "principal bytes")?,
        peer: read_text(&mut reader, PEER_BYTES_MAX, "peer bytes")?,
        received_at: UnixMillis(reader.u64()?),
        revocation: read_revocation(&mut reader)?,
    };
    reader.finish()?;
    Ok(carried)
}

fn encode_body(body: &Body, out: &mut Vec<u8>) -> Result<(), RecordError> {
    match body {
        Body::Start { build, wall_time } => {
            out.push(0);
            put_text("build", build, BUILD_BYTES_MAX, out)?;
            out.extend_from_slice(&wall_time.0.to_le_bytes());
        }
        Body::Tick => out.push(1),
        Body::Policy { policy, actor, peer } => {
            out.push(2);
            put_text("actor", actor, PRINCIPAL_BYTES_MAX, out)?;
            if !peer.is_empty() {
                put_text("peer", peer, PEER_BYTES_MAX, out)?;
            }
            out.extend_from_slice(&policy.encode());
        }
        Body::Requests(requests) => {
            out.push(3);
            check("record", "requests", requests.len(), REVOCATIONS_MAX)?;
            put_count(requests.len(), out);
            let mut total = 0;
            for request in requests {
                total += encode_request(request, out)?;
            }
            check("record", "revocations", total, REVOCATIONS_MAX)?;
        }
        Body::Extend(extensions) => {
            out.push(4);
            check("record", "extensions", extensions.len(), REVOCATIONS_MAX)?;
            put_count(extensions.len(), out);
            for extension in extensions {
                encode_id(&extension.id, out);
                encode_selector(&extension.selector, out);
                out.extend_from_slice(&extension.expiry.bits().to_le_bytes());
            }
        }
        Body::Credentials(change) => {
            out.push(5);
            change.encode(out)?;
        }
        Body::Verification(applied) => {
            out.push(6);
            encode_applied(applied, out)?;
        }
    }
    Ok(())
}

fn read_body(reader: &mut Reader<'_>, version: u8) -> Result<Body, DecodeError> {
    Ok(match reader.u8()? {
        0 => Body::Start {
            build: read_text(reader, BUILD_BYTES_MAX, "build bytes")?,
            wall_time: UnixMillis(reader.u64()?),
        },
        1 => Body::Tick,
        2 => {
            let actor = read_text(reader, PRINCIPAL_BYTES_MAX, "actor bytes")?;
            let peer = match version {
                VERSION => String::new(),
                _ => read_text(reader, PEER_BYTES_MAX, "peer bytes")?,
            };
            let policy = Policy::read(reader)?;
            Body::Policy { policy, actor, peer }
        }
        3 => {
            let count = reader.count(REVOCATIONS_MAX, ITEM_BYTES_MIN, "requests")?;
            let mut requests = Vec::new();
            let mut total = 0;
            for _ in 0..count {
                requests.push(read_request(reader, &mut total)?);
            }
            Body::Requests(requests)
        }
        4 => {
            let count = reader.count(REVOCATIONS_MAX, 20, "extensions")?;
            let extensions = (0..count).map(|_| {
                Ok(Extension { id: read_id(reader)?, selector: read_selector(reader)?, expiry: reader.minute()? })
            });
            Body::Extend(extensions.collect::<Result<_, DecodeError>>()?)
        }
        5 => Body::Credentials(CredentialChange::read(reader)?),
        6 => Body::Verification(Arc::new(read_applied(reader)?)),
        _ => return Err(DecodeError::Invalid("record kind")),
    })
}

/// Says how many revocations the request makes or undoes.
fn encode_request(request: &Request, out: &mut Vec<u8>) -> Result<usize, RecordError> {
    put_text("principal", &request.principal, PRINCIPAL_BYTES_MAX, out)?;
    put_text("peer", &request.peer, PEER_BYTES_MAX, out)?;
    out.push(u8::from(request.request_id.is_some()));
    if let Some(id) = &request.request_id {
        put_text("request id", id, REQUEST_ID_BYTES_MAX, out)?;
    }
    out.extend_from_slice(&request.body_hash);
    out.extend_from_slice(&request.received_at.0.to_le_bytes());
    match &request.action {
        Action::Revoke(revocations) => {
            out.push(0);
            put_count(revocations.len(), out);
            revocations.iter().try_for_each(|revocation| encode_revocation(revocation, out))?;
            Ok(revocations.len())
        }
        Action::Reinstate(reinstatements) => {
            out.push(1);
            check("request", "reinstatements", reinstatements.len(), REVOCATIONS_MAX)?;
            put_count(reinstatements.len(), out);
            let mut undone = 0;
            for reinstatement in reinstatements {
                encode_reinstatement(reinstatement, out)?;
                undone += reinstatement.undone.len();
            }
            Ok(undone)
        }
    }
}

/// Adds to `total`, which is bounded by [`REVOCATIONS_MAX`], what the request makes or undoes.
fn read_request(reader: &mut Reader<'_>, total: &mut usize) -> Result<Request, DecodeError> {
    let principal = read_text(reader, PRINCIPAL_BYTES_MAX, "principal bytes")?;
    let peer = read_text(reader, PEER_BYTES_MAX, "peer bytes")?;
    let request_id = match reader.u8()? {
        0 => None,
        1 => Some(read_text(reader, REQUEST_ID_BYTES_MAX, "request id bytes")?),
        _ => return Err(DecodeError::Invalid("request id flag")),
    };
    let body_hash = reader.array()?;
    let received_at = UnixMillis(reader.u64()?);
    let action = match reader.u8()? {
        0 => {
            let count = reader.count(REVOCATIONS_MAX - *total, ITEM_BYTES_MIN, "revocations")?;
            *total += count;
            Action::Revoke((0..count).map(|_| read_revocation(reader)).collect::<Result<_, _>>()?)
        }
        1 => {
            let count = reader.count(REVOCATIONS_MAX, ITEM_BYTES_MIN, "reinstatements")?;
            let reinstatements = (0..count).map(|_| read_reinstatement(reader, total));
            Action::Reinstate(reinstatements.collect::<Result<_, _>>()?)
        }
        _ => return Err(DecodeError::Invalid("action")),
    };
    Ok(Request { principal, peer, request_id, body_hash, received_at, action })
}

/// Selector ‖ u64le entry (cutoff, expiry, whether exceptions follow) ‖ if so: u8 count ‖ (selector ‖ 16 B fingerprint) ‖
/// u8 expiry basis, bit 7: already expired, bit 6: merged ‖ reason.
pub(super) fn encode_revocation(revocation: &Revocation, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let Revocation { selector, mark, exceptions, expiry_basis, reason, already_expired, merged } = revocation;
    if mark.spares.len() != exceptions.len() {
        return Err(RecordError::Exceptions { spares: mark.spares.len(), exceptions: exceptions.len() });
    }
    check("revocation", "exceptions", exceptions.len(), EXCEPTIONS_MAX)?;
    encode_selector(selector, out);
    out.extend_from_slice(&PackedEntry::new(mark.cutoff, mark.expiry, !exceptions.is_empty()).bits().to_le_bytes());
    if !exceptions.is_empty() {
        out.push(exceptions.len() as u8);
        for (exception, (_, fingerprint)) in exceptions.iter().zip(&mark.spares) {
            encode_selector(exception, out);
            out.extend_from_slice(&fingerprint.to_bytes());
        }
    }
    out.push(expiry_basis.code() | u8::from(*already_expired) << 7 | u8::from(*merged) << 6);
    put_text("reason", reason, REASON_BYTES_MAX, out)
}

pub(super) fn read_revocation(reader: &mut Reader<'_>) -> Result<Revocation, DecodeError> {
    let selector = read_selector(reader)?;
    let entry = reader.entry()?;
    let mut mark = Mark { cutoff: entry.cutoff(), expiry: entry.expiry(), spares: Vec::new() };
    let mut exceptions = Vec::new();
    if entry.has_exceptions() {
        let count = usize::from(reader.u8()?);
        if !(1..=EXCEPTIONS_MAX).contains(&count) {
            return Err(DecodeError::Invalid("number of exceptions"));
        }
        for _ in 0..count {
            let exception = read_selector(reader)?;
            mark.spares.push((exception.shape(), reader.fingerprint()?));
            exceptions.push(exception);
        }
    }
    let basis = reader.u8()?;
    let expiry_basis = ExpiryBasis::from_code(basis & 0x3f)?;
    let reason = read_text(reader, REASON_BYTES_MAX, "reason bytes")?;
    let (already_expired, merged) = (basis & 0x80 != 0, basis & 0x40 != 0);
    Ok(Revocation { selector, mark, exceptions, expiry_basis, reason, already_expired, merged })
}

fn encode_reinstatement(reinstatement: &Reinstatement, out: &mut Vec<u8>) -> Result<(), RecordError> {
    encode_selector(&reinstatement.selector, out);
    out.push(u8::from(reinstatement.only.is_some()));
    if let Some(id) = &reinstatement.only {
        encode_id(id, out);
    }
    check("reinstatement", "undone revocations", reinstatement.undone.len(), REVOCATIONS_MAX)?;
    put_count(reinstatement.undone.len(), out);
    reinstatement.undone.iter().for_each(|id| encode_id(id, out));
    put_text("reason", &reinstatement.reason, REASON_BYTES_MAX, out)
}

fn read_reinstatement(reader: &mut Reader<'_>, total: &mut usize) -> Result<Reinstatement, DecodeError> {
    let selector = read_selector(reader)?;
    let only = match reader.u8()? {
        0 => None,
        1 => Some(read_id(reader)?),
        _ => return Err(DecodeError::Invalid("reinstatement flag")),
    };
    let count = reader.count(REVOCATIONS_MAX - *total, 16, "undone revocations")?;
    *total += count;
    let undone = (0..count).map(|_| read_id(reader)).collect::<Result<_, _>>()?;
    Ok(Reinstatement { selector, only, undone, reason: read_text(reader, REASON_BYTES_MAX, "reason bytes")? })
}

/// u8 tested claim (0 `iat`, 1 `auth_time`) ‖ u8 count ‖ per pair: u8 length ‖ name ‖ u16le length ‖ value.
fn encode_selector(selector: &Selector, out: &mut Vec<u8>) {
    out.push(match selector.tested() {
        TestedClaim::Iat => 0,
        TestedClaim::AuthTime => 1,
    });
    out.push(selector.pairs().len() as u8);
    for (name, value) in selector.pairs() {
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
    }
}

/// Accepts sorted pairs only: there is one way to write a selector.
fn read_selector(reader: &mut Reader<'_>) -> Result<Selector, DecodeError> {
    let tested = match reader.u8()? {
        0 => TestedClaim::Iat,
        1 => TestedClaim::AuthTime,
        _ => return Err(DecodeError::Invalid("tested claim")),
    };
    let count = usize::from(reader.u8()?);
    if count > CLAIMS_MAX {
        return Err(DecodeError::TooMany { what: "claims", limit: CLAIMS_MAX });
    }
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.u8()?.into();
        let name = text(reader.take(length)?)?;
        let length = reader.u16()?.into();
        pairs.push((name, text(reader.take(length)?)?));
    }
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(DecodeError::Invalid("claims are not sorted and unique"));
    }
    Selector::new(pairs, tested).map_err(|_| DecodeError::Invalid("selector"))
}

fn encode_id(id: &RevocationId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.epoch_prefix.to_le_bytes());
    out.extend_from_slice(&id.revision.0.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

fn read_id(reader: &mut Reader<'_>) -> Result<RevocationId, DecodeError> {
    Ok(RevocationId { epoch_prefix: reader.u32()?, revision: Revision(reader.u64()?), index: reader.u32()? })
}

/// u16le length ‖ bytes.
pub(super) fn put_text(what: &'static str, text: &str, limit: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
    check(what, "bytes", text.len(), limit)?;
    out.extend_from_slice(&(text.len() as u16).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

pub(super) fn read_text(reader: &mut Reader<'_>, limit: usize, what: &'static str) -> Result<String, DecodeError> {
    let length = usize::from(reader.u16()?);
    if length > limit {
        return Err(DecodeError::TooMany { what, limit });
    }
    Ok(text(reader.take(length)?)?.to_owned())
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("UTF-8"))
}

/// A count within its limit, all of which are far below 2^32.
fn put_count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

pub(super) fn check(what: &'static str, unit: &'static str, given: usize, limit: usize) -> Result<(), RecordError> {
    if given <= limit { Ok(()) } else { Err(RecordError::TooLong { what, unit, limit, given }) }
}

#[cfg(test)]
mod tests;
