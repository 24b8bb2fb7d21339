//! Credentials in the journal: created and revoked by records of their own, and the bytes of both.
//!
//! The secret itself never comes here, only its hash.

use super::codec::{check, put_text, read_text};
use super::record::{PEER_BYTES_MAX, PRINCIPAL_BYTES_MAX, RecordError};
use crate::revocation::grant::{GRANT_NAMES_MAX, Roles};
use crate::revocation::ports::{CREDENTIAL_NAME_BYTES_MAX, CREDENTIALS_MAX, Credential, CredentialHash, CredentialId};
use crate::revocation::{DecodeError, Grant, Reader, UnixMillis, UnixSeconds};

/// The longest issuer or claim name in a grant, in bytes: the longest value of a claim.
pub const GRANT_NAME_BYTES_MAX: usize = 1024;

/// A change of the credentials: one for each record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialChange {
    /// Who asked.
    pub principal: String,
    /// From where.
    pub peer: String,
    /// The wall clock when it was decided.
    pub received_at: UnixMillis,
    /// What it does.
    pub action: CredentialAction,
}

/// What a change of the credentials does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialAction {
    /// This one exists from now on; created when and by whom the change says.
    Create(Box<Credential>),
    /// These are refused from now on.
    Revoke(Vec<CredentialId>),
}

impl CredentialChange {
    /// Text principal ‖ text peer ‖ u64le received at ‖ u8 action ‖ 0: the credential; 1: u32le count ‖ 8 B id each.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        put_text("principal", &self.principal, PRINCIPAL_BYTES_MAX, out)?;
        put_text("peer", &self.peer, PEER_BYTES_MAX, out)?;
        out.extend_from_slice(&self.received_at.0.to_le_bytes());
        match &self.action {
            CredentialAction::Create(credential) => {
                if credential.created_by != self.principal || credential.created_at != self.received_at {
                    return Err(RecordError::ForeignCredential);
                }
                out.push(0);
                encode_granted(credential, out)
            }
            CredentialAction::Revoke(ids) => {
                out.push(1);
                check("record", "credentials", ids.len(), CREDENTIALS_MAX)?;
                out.extend_from_slice(&(ids.len() as u32).to_le_bytes());
                ids.iter().for_each(|id| out.extend_from_slice(&id.0));
                Ok(())
            }
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let principal = read_text(reader, PRINCIPAL_BYTES_MAX, "principal bytes")?;
        let peer = read_text(reader, PEER_BYTES_MAX, "peer bytes")?;
        let received_at = UnixMillis(reader.u64()?);
        let action = match reader.u8()? {
            0 => CredentialAction::Create(Box::new(read_granted(reader, received_at, principal.clone())?)),
            1 => {
                let count = reader.count(CREDENTIALS_MAX, size_of::<CredentialId>(), "credentials")?;
                let ids = (0..count).map(|_| Ok(CredentialId(reader.array()?)));
                CredentialAction::Revoke(ids.collect::<Result<_, DecodeError>>()?)
            }
            _ => return Err(DecodeError::Invalid("credential action")),
        };
        Ok(Self { principal, peer, received_at, action })
    }
}

/// Appends a credential with when and by whom it was created, as snapshots keep it.
///
/// # Errors
/// When a field is over its limit.
pub fn encode_credential(credential: &Credential, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.extend_from_slice(&credential.created_at.0.to_le_bytes());
    put_text("principal", &credential.created_by, PRINCIPAL_BYTES_MAX, out)?;
    encode_granted(credential, out)
}

/// The inverse of [`encode_credential`].
///
/// # Errors
/// When the bytes are not what it writes.
pub fn read_credential(reader: &mut Reader<'_>) -> Result<Credential, DecodeError> {
    let created_at = UnixMillis(reader.u64()?);
    let created_by = read_text(reader, PRINCIPAL_BYTES_MAX, "principal bytes")?;
    read_granted(reader, created_at, created_by)
}

/// 8 B id ‖ text name ‖ 16 B salt ‖ 32 B digest ‖ u8 expires [‖ u64le seconds] ‖ u16le roles ‖ names of issuers ‖ names of
/// claims ‖ u8 has a quota [‖ u32le writes a minute].
fn encode_granted(credential: &Credential, out: &mut Vec<u8>) -> Result<(), RecordError> {
    let Credential { id, name, grant, hash, expires_at, .. } = credential;
    out.extend_from_slice(&id.0);
    put_text("credential name", name, CREDENTIAL_NAME_BYTES_MAX, out)?;
    out.extend_from_slice(&hash.salt);
    out.extend_from_slice(&hash.digest);
    out.push(u8::from(expires_at.is_some()));
    if let Some(at) = expires_at {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
    out.extend_from_slice(&grant.roles.bits().to_le_bytes());
    put_names("issuers", grant.issuers.as_deref(), out)?;
    put_names("claims", grant.claims.as_deref(), out)?;
    out.push(u8::from(grant.writes_per_minute.is_some()));
    if let Some(writes) = grant.writes_per_minute {
        out.extend_from_slice(&writes.to_le_bytes());
    }
    Ok(())
}

fn read_granted(
    reader: &mut Reader<'_>,
    created_at: UnixMillis,
    created_by: String,
) -> Result<Credential, DecodeError> {
    let id = CredentialId(reader.array()?);
    let name = read_text(reader, CREDENTIAL_NAME_BYTES_MAX, "credential name bytes")?;
    let hash = CredentialHash { salt: reader.array()?, digest: reader.array()? };
    let expires_at = if flag(reader, "expiry flag")? { Some(UnixSeconds(reader.u64()?)) } else { None };
    let grant = Grant {
        roles: Roles::from_bits(reader.u16()?)?,
        issuers: read_names(reader, "issuers")?,
        claims: read_names(reader, "claims")?,
        writes_per_minute: if flag(reader, "quota flag")? { Some(reader.u32()?) } else { None },
    };
    Ok(Credential { id, name, grant, hash, expires_at, created_at, created_by })
}

/// u8 bounded [‖ u8 count ‖ text each].
fn put_names(what: &'static str, names: Option<&[String]>, out: &mut Vec<u8>) -> Result<(), RecordError> {
    out.push(u8::from(names.is_some()));
    let Some(names) = names else { return Ok(()) };
    check("grant", what, names.len(), GRANT_NAMES_MAX)?;
    out.push(names.len() as u8);
    names.iter().try_for_each(|name| put_text(what, name, GRANT_NAME_BYTES_MAX, out))
}

fn read_names(reader: &mut Reader<'_>, what: &'static str) -> Result<Option<Vec<String>>, DecodeError> {
    if !flag(reader, "flag of a grant's names")? {
        return Ok(None);
    }
    let count = usize::from(reader.u8()?);
    if count > GRANT_NAMES_MAX {
        return Err(DecodeError::TooMany { what, limit: GRANT_NAMES_MAX });
    }
    (0..count)
        .map(|_| read_text(reader, GRANT_NAME_BYTES_MAX, "bytes of a grant's name"))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn flag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Invalid(what)),
    }
}
