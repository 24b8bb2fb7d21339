//! What a request is worth when there are too many.

/// Kinds of requests, the first to be refused first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::surface) enum Class {
    /// Searches, lists, exports, backups, and whatever is not known: can be asked again at leisure.
    Background,
    /// A subscription that begins: it may need a snapshot, and whoever wants it is there already.
    Subscription,
    /// Writes, and the wait for their propagation.
    Write,
    /// Checks: what everybody waits for.
    Check,
    /// Health and status: nothing to save, and needed to see what is going on.
    Vital,
}

/// The names of the classes, as they are counted.
pub const CLASSES: [&str; 5] = ["background", "subscription", "write", "check", "vital"];

impl Class {
    /// Of the request for `path`.
    pub(in crate::surface) fn of(path: &str) -> Self {
        let (service, method) = path.rsplit_once('/').unwrap_or_default();
        match (service, method) {
            ("/rescind.v1.CheckService" | "/envoy.service.auth.v3.Authorization", _)
            | ("/v1", "check")
            | ("/oauth2", "introspect")
            | ("", "authz") => Self::Check,
            ("/rescind.v1.RevocationService", "Revoke" | "Reinstate" | "AwaitPropagation")
            | ("/v1", "revocations" | "revocations:reinstate")
            | ("/oauth2", "revoke")
            | ("/rescind.v1.AdminService", "AcceptLoss" | "Forget" | "CreateCredential" | "RevokeCredential") => {
                Self::Write
            }
            ("/rescind.v1.ReplicationService", "Subscribe") => Self::Subscription,
            ("/rescind.v1.AdminService", "GetStatus") | ("/grpc.health.v1.Health", _) => Self::Vital,
            // The operators' port.
            ("", "metrics" | "livez" | "readyz") => Self::Vital,
            _ => Self::Background,
        }
    }

    /// The part of the budget, in quarters, up to which a request of this class is taken.
    pub(super) fn quarters(self) -> usize {
        match self {
            Self::Background => 1,
            Self::Subscription => 2,
            Self::Write => 3,
            Self::Check | Self::Vital => 4,
        }
    }

    pub(super) fn name(self) -> &'static str {
        CLASSES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_wait_is_refused_first_and_checks_last() {
        use Class::{Background, Check, Subscription, Vital, Write};
        for (path, class) in [
            ("/rescind.v1.CheckService/CheckToken", Check),
            ("/rescind.v1.CheckService/CheckTokens", Check),
            ("/v1/check", Check),
            ("/oauth2/introspect", Check),
            ("/oauth2/revoke", Write),
            ("/.well-known/oauth-authorization-server", Background),
            ("/envoy.service.auth.v3.Authorization/Check", Check),
            ("/authz", Check),
            ("/rescind.v1.RevocationService/Revoke", Write),
            ("/v1/revocations", Write),
            ("/v1/revocations:reinstate", Write),
            ("/v1/revocations:search", Background),
            ("/rescind.v1.RevocationService/ListRevocations", Background),
            ("/rescind.v1.ReplicationService/ListSubscribers", Background),
            ("/rescind.v1.AdminService/Backup", Background),
            ("/rescind.v1.ReplicationService/Subscribe", Subscription),
            ("/rescind.v1.AdminService/GetStatus", Vital),
            ("/grpc.health.v1.Health/Check", Vital),
            ("/metrics", Vital),
            ("/", Background),
            ("", Background),
        ] {
            assert_eq!(Class::of(path), class, "{path}");
        }
        let order = [Background, Subscription, Write, Check];
        assert!(order.is_sorted() && order.map(Class::quarters).is_sorted());
    }
}
