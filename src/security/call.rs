//! Every call that a server answers, and who may make it: one table, of gRPC and JSON alike.
//!
//! `docs/access.md` shows it, and `tests/access.rs` reads it there and walks it. What is not in it is answered to nobody.

use std::fmt;

use crate::revocation::grant::{Role, Roles};

/// A call, in either form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the methods of the protocol, explained there")]
pub enum Call {
    CheckToken,
    CheckTokens,
    Authorize,
    Revoke,
    AwaitPropagation,
    Reinstate,
    GetRevocation,
    ListRevocations,
    Subscribe,
    ListSubscribers,
    GetStatus,
    AcceptLoss,
    Backup,
    Forget,
    CreateCredential,
    ListCredentials,
    RevokeCredential,
    ExportJournal,
    ApplyPolicy,
    GetPolicy,
    ListPolicies,
    Health,
    Reflection,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Even those whom nobody knows.
    Nothing,
    /// Every principal.
    Principal,
    /// Those with this role.
    Role(Role),
    /// Those with either role.
    Either(Role, Role),
}

/// A call, where it is asked, and who may.
struct Row(Call, &'static [&'static str], Need);

/// The busiest first.
const TABLE: [Row; 23] = [
    Row(Call::CheckToken, &["/rescind.v1.CheckService/CheckToken", "/v1/check"], Need::Role(Role::Check)),
    Row(Call::CheckTokens, &["/rescind.v1.CheckService/CheckTokens"], Need::Role(Role::Check)),
    Row(Call::Authorize, &["/envoy.service.auth.v3.Authorization/Check", "/authz"], Need::Role(Role::Check)),
    Row(Call::Revoke, &["/rescind.v1.RevocationService/Revoke", "/v1/revocations"], Need::Role(Role::Revoke)),
    Row(Call::AwaitPropagation, &["/rescind.v1.RevocationService/AwaitPropagation"], Need::Role(Role::Revoke)),
    Row(
        Call::Reinstate,
        &["/rescind.v1.RevocationService/Reinstate", "/v1/revocations:reinstate"],
        Need::Role(Role::Admin),
    ),
    Row(Call::GetRevocation, &["/rescind.v1.RevocationService/GetRevocation"], Need::Role(Role::Admin)),
    Row(
        Call::ListRevocations,
        &["/rescind.v1.RevocationService/ListRevocations", "/v1/revocations:search"],
        Need::Role(Role::Admin),
    ),
    Row(Call::Subscribe, &["/rescind.v1.ReplicationService/Subscribe"], Need::Either(Role::Subscribe, Role::Relay)),
    Row(Call::ListSubscribers, &["/rescind.v1.ReplicationService/ListSubscribers"], Need::Role(Role::Admin)),
    Row(Call::GetStatus, &["/rescind.v1.AdminService/GetStatus"], Need::Principal),
    Row(Call::AcceptLoss, &["/rescind.v1.AdminService/AcceptLoss"], Need::Role(Role::Admin)),
    Row(Call::Backup, &["/rescind.v1.AdminService/Backup"], Need::Role(Role::Admin)),
    Row(Call::Forget, &["/rescind.v1.AdminService/Forget"], Need::Role(Role::Admin)),
    Row(Call::CreateCredential, &["/rescind.v1.AdminService/CreateCredential"], Need::Role(Role::Admin)),
    Row(Call::ListCredentials, &["/rescind.v1.AdminService/ListCredentials"], Need::Role(Role::Admin)),
    Row(Call::RevokeCredential, &["/rescind.v1.AdminService/RevokeCredential"], Need::Role(Role::Admin)),
    Row(Call::ExportJournal, &["/rescind.v1.AdminService/ExportJournal"], Need::Role(Role::Peer)),
    Row(Call::ApplyPolicy, &["/rescind.v1.AdminService/ApplyPolicy"], Need::Role(Role::Admin)),
    Row(Call::GetPolicy, &["/rescind.v1.AdminService/GetPolicy"], Need::Role(Role::Check)),
    Row(Call::ListPolicies, &["/rescind.v1.AdminService/ListPolicies"], Need::Role(Role::Admin)),
    Row(Call::Health, &["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"], Need::Nothing),
    Row(
        Call::Reflection,
        &[
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ],
        Need::Principal,
    ),
];

impl Call {
    /// The call at a path; `None` when there is none.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1.contains(&path)).map(|row| row.0)
    }

    /// Who may make it.
    #[must_use]
    pub fn need(self) -> Need {
        self.row().map_or(Need::Role(Role::Admin), |row| row.2)
    }

    /// Its name in the audit of what was denied.
    #[must_use]
    pub fn name(self) -> &'static str {
        let path = self.row().and_then(|row| row.1.first());
        path.and_then(|path| path.rsplit('/').next()).unwrap_or_default()
    }

    /// Every path, with its call.
    pub fn paths() -> impl Iterator<Item = (&'static str, Self)> {
        TABLE.iter().flat_map(|row| row.1.iter().map(|path| (*path, row.0)))
    }

    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.0 == self)
    }
}

impl Need {
    /// Whether those with these roles may. [`Need::Nothing`] and [`Need::Principal`] ask for none.
    #[must_use]
    pub fn allows(self, roles: Roles) -> bool {
        match self {
            Self::Nothing | Self::Principal => true,
            Self::Role(role) => roles.allow(role),
            Self::Either(one, other) => roles.allow(one) || roles.allow(other),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Principal => f.write_str("a principal"),
            Self::Role(role) => write!(f, "{role}"),
            Self::Either(one, other) => write!(f, "{one} or {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_one_call_and_every_call_has_a_row_and_a_name() {
        let mut seen = std::collections::BTreeSet::new();
        for (path, call) in Call::paths() {
            assert!(seen.insert(path), "{path} is there twice");
            assert_eq!(Call::at(path), Some(call), "{path}");
            assert!(call.row().is_some() && !call.name().is_empty(), "{call:?}");
        }
        for path in ["", "/", "/v1/check/", "/rescind.v1.CheckService/", "/rescind.v1.CheckService/checktoken"] {
            assert_eq!(Call::at(path), None, "{path}");
        }
    }

    #[test]
    fn writes_beyond_revoking_are_for_admins() {
        let roles: Roles = Role::ALL.into_iter().filter(|role| *role != Role::Admin).collect();
        for call in [Call::Reinstate, Call::Forget, Call::AcceptLoss, Call::Backup, Call::ListRevocations] {
            assert!(!call.need().allows(roles), "{call:?}");
            assert!(call.need().allows([Role::Admin].into_iter().collect()), "{call:?}");
        }
        assert_eq!(Call::Subscribe.need().to_string(), "subscribe or relay");
    }
}
