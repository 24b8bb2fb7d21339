//! Verification policies in the journal: each version as it was applied, in a record of its own and in snapshots.

use std::sync::Arc;

use super::codec::{check, put_text, read_text};
use super::record::{PEER_BYTES_MAX, PRINCIPAL_BYTES_MAX, REASON_BYTES_MAX, RecordError};
use crate::revocation::ports::{AppliedPolicy, POLICY_SOURCE_BYTES_MAX};
use crate::revocation::{DecodeError, Reader, UnixMillis, VersionedPolicy};

/// Appends text principal ‖ text peer ‖ u64le applied at ‖ text reason ‖ u64le version that it reverts to, 0: none ‖ u32le
/// length ‖ source ‖ the policy with its version.
///
/// # Errors
/// When a field is over its limit.
pub fn encode_applied(applied: &AppliedPolicy, out: &mut Vec<u8>) -> Result<(), RecordError> {
    put_text("principal", &applied.principal, PRINCIPAL_BYTES_MAX, out)?;
    put_text("peer", &applied.peer, PEER_BYTES_MAX, out)?;
    out.extend_from_slice(&applied.applied_at.0.to_le_bytes());
    put_text("reason", &applied.reason, REASON_BYTES_MAX, out)?;
    out.extend_from_slice(&applied.reverts_to.unwrap_or(0).to_le_bytes());
    check("policy text", "bytes", applied.source.len(), POLICY_SOURCE_BYTES_MAX)?;
    out.extend_from_slice(&(applied.source.len() as u32).to_le_bytes());
    out.extend_from_slice(applied.source.as_bytes());
    out.extend_from_slice(&applied.policy.encode());
    Ok(())
}

/// The inverse of [`encode_applied`].
///
/// # Errors
/// When the bytes are not what it writes.
pub fn read_applied(reader: &mut Reader<'_>) -> Result<AppliedPolicy, DecodeError> {
    let principal = read_text(reader, PRINCIPAL_BYTES_MAX, "principal bytes")?;
    let peer = read_text(reader, PEER_BYTES_MAX, "peer bytes")?;
    let applied_at = UnixMillis(reader.u64()?);
    let reason = read_text(reader, REASON_BYTES_MAX, "reason bytes")?;
    let reverts_to = Some(reader.u64()?).filter(|version| *version > 0);
    let length = reader.count(POLICY_SOURCE_BYTES_MAX, 1, "bytes of a policy text")?;
    let source = std::str::from_utf8(reader.take(length)?).map_err(|_| DecodeError::Invalid("UTF-8"))?.to_owned();
    let policy = Arc::new(VersionedPolicy::read(reader)?);
    Ok(AppliedPolicy { policy, source, principal, peer, applied_at, reason, reverts_to })
}
