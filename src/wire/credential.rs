//! Credentials as messages.

use super::pb;
use crate::revocation::Grant;
use crate::revocation::ports::Credential;

/// A credential without what is kept of its secret.
#[must_use]
pub fn credential_record(credential: &Credential) -> pb::CredentialRecord {
    pb::CredentialRecord {
        id: credential.id.to_string(),
        name: credential.name.clone(),
        grant: Some(grant_message(&credential.grant)),
        expires_at_seconds: credential.expires_at.map(|at| at.0),
        created_at_millis: credential.created_at.0,
        created_by: credential.created_by.clone(),
    }
}

/// What a principal may do.
#[must_use]
pub fn grant_message(grant: &Grant) -> pb::Grant {
    pb::Grant {
        roles: grant.roles.iter().map(|role| role.name().to_owned()).collect(),
        issuers: grant.issuers.clone().unwrap_or_default(),
        claims: grant.claims.clone().unwrap_or_default(),
        writes_per_minute: grant.writes_per_minute,
    }
}
