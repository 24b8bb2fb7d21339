//! Records to test with. Record n is written on day n.

use std::sync::Arc;

use crate::journal::{
    Action, Body, CredentialAction, CredentialChange, ExpiryBasis, Extension, Record, Reinstatement, Request,
    Revocation,
};
use crate::revocation::grant::Role;
use crate::revocation::ports::{AppliedPolicy, Credential, CredentialHash, CredentialId};
use crate::revocation::verification::{Algorithm, Issuer, KeySource, RouteClass, TokenType};
use crate::revocation::{
    Chain, Cutoff, Delta, Fingerprint, Grant, Mark, Minute, Policy, Revision, RevocationId, Selector, TestedClaim,
    UnixMillis, UnixSeconds, VerificationPolicy, VersionedPolicy,
};

pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

/// A record with this body, and a delta of nothing but the time.
pub(crate) fn record(revision: Revision, body: Body) -> Record {
    let delta = Delta::empty(revision, UnixMillis(revision.0.saturating_mul(DAY_MS)), Minute::default()).encode();
    Record { revision, chain_after: Chain::default().next(&delta), body, delta }
}

pub(crate) fn ticking(revision: Revision) -> Record {
    record(revision, Body::Tick)
}

/// One request of `count` revocations by subject: `user-<revision>-<index>` at issuer `idp`.
pub(crate) fn revoking(revision: Revision, count: u32) -> Record {
    let revocations = (0..count).map(|index| revocation(&format!("user-{revision}-{index}"))).collect();
    record(revision, Body::Requests(vec![request(revision, Action::Revoke(revocations))]))
}

pub(crate) fn undoing(revision: Revision, undone: &[RevocationId]) -> Record {
    let reinstatement = Reinstatement {
        selector: revocation("bob").selector,
        only: Some(undone[0]),
        undone: undone.to_vec(),
        reason: "by mistake".into(),
    };
    record(revision, Body::Requests(vec![request(revision, Action::Reinstate(vec![reinstatement]))]))
}

pub(crate) fn extending(revision: Revision, id: RevocationId, expiry: u32) -> Record {
    record(
        revision,
        Body::Extend(vec![Extension { id, selector: revocation("bob").selector, expiry: Minute::at(expiry).unwrap() }]),
    )
}

pub(crate) fn request(revision: Revision, action: Action) -> Request {
    Request {
        principal: format!("admin-{}", revision.0 % 3),
        peer: "127.0.0.1:4711".into(),
        request_id: Some(format!("request-{revision}")),
        body_hash: [7; 32],
        received_at: UnixMillis(revision.0.saturating_mul(DAY_MS)),
        action,
    }
}

pub(crate) fn revocation(subject: &str) -> Revocation {
    Revocation {
        selector: Selector::new([("sub", subject), ("iss", "idp")], TestedClaim::Iat).unwrap(),
        mark: Mark { cutoff: Cutoff::at(UnixSeconds(1000)).unwrap(), expiry: Minute::at(500).unwrap(), spares: vec![] },
        exceptions: vec![],
        expiry_basis: ExpiryBasis::TokenLifetime,
        reason: "left the company".into(),
        already_expired: false,
        merged: false,
    }
}

/// A revocation in which every optional part is there.
pub(crate) fn full_revocation() -> Revocation {
    let exception = Selector::new([("sid", "this-one")], TestedClaim::Iat).unwrap();
    Revocation {
        selector: Selector::new([("sub", "alice"), ("client_id", "web")], TestedClaim::AuthTime).unwrap(),
        mark: Mark {
            cutoff: Cutoff::UNBOUNDED,
            expiry: Minute::NEVER,
            spares: vec![(exception.shape(), Fingerprint([1, 2]))],
        },
        exceptions: vec![exception],
        expiry_basis: ExpiryBasis::Never,
        reason: String::new(),
        already_expired: true,
        merged: true,
    }
}

/// A credential in which every optional part is there, created by the record of `revision`.
pub(crate) fn credential(revision: Revision, id: u8) -> Credential {
    Credential {
        id: CredentialId([id; 8]),
        name: format!("gateway-{id}"),
        grant: Grant {
            roles: [Role::Check, Role::Revoke].into_iter().collect(),
            issuers: Some(vec!["https://idp".into(), "other".into()]),
            claims: Some(vec!["sub".into()]),
            writes_per_minute: Some(60),
        },
        hash: CredentialHash { salt: [3; 16], digest: [4; 32] },
        expires_at: Some(UnixSeconds(2_000_000_000)),
        created_at: UnixMillis(revision.0.saturating_mul(DAY_MS)),
        created_by: format!("admin-{}", revision.0 % 3),
    }
}

pub(crate) fn changing_credentials(revision: Revision, action: CredentialAction) -> Record {
    let (principal, received_at) = (format!("admin-{}", revision.0 % 3), UnixMillis(revision.0.saturating_mul(DAY_MS)));
    record(revision, Body::Credentials(CredentialChange { principal, peer: "192.0.2.1".into(), received_at, action }))
}

/// A verification policy with one class of routes, applied by the record of `revision`.
pub(crate) fn applied_policy(revision: Revision, version: u64) -> AppliedPolicy {
    let issuer = Issuer {
        iss: "https://idp.example".into(),
        audiences: vec!["api".into()],
        algorithms: vec![Algorithm::ES256],
        types: vec![TokenType::AccessToken],
        leeway_seconds: 60,
        keys: KeySource::Discovery,
    };
    let class = RouteClass {
        name: format!("orders-{version}"),
        issuers: vec![],
        audiences: vec![],
        scopes: vec!["orders.read".into()],
        claims: vec![],
    };
    let policy = VerificationPolicy::new(vec![issuer], vec![class]).expect("a valid policy");
    AppliedPolicy {
        policy: Arc::new(VersionedPolicy { version, policy }),
        source: format!("# version {version}\n"),
        principal: format!("admin-{}", revision.0 % 3),
        peer: "192.0.2.1".into(),
        applied_at: UnixMillis(revision.0.saturating_mul(DAY_MS)),
        reason: "orders need a scope".into(),
        reverts_to: None,
    }
}

/// Records 1 to 12, of every kind.
pub(crate) fn one_of_each() -> Vec<Record> {
    let id = RevocationId { epoch_prefix: 0xabcd_ef01, revision: Revision(3), index: 1 };
    let by_selector = Reinstatement {
        selector: revocation("bob").selector,
        only: None,
        undone: vec![id, RevocationId { index: 0, ..id }],
        reason: String::new(),
    };
    let mixed = vec![
        request(Revision(4), Action::Revoke(vec![full_revocation(), revocation("bob")])),
        Request { request_id: None, ..request(Revision(4), Action::Reinstate(vec![by_selector])) },
        request(Revision(4), Action::Revoke(vec![revocation("carol")])),
    ];
    let plain = Credential {
        grant: Grant { roles: [Role::Admin].into_iter().collect(), ..Grant::default() },
        expires_at: None,
        ..credential(Revision(10), 8)
    };
    vec![
        record(Revision(1), Body::Start { build: "1.2.3".into(), wall_time: UnixMillis(99) }),
        record(Revision(2), Body::Policy { policy: Policy::default(), actor: "root".into(), peer: String::new() }),
        revoking(Revision(3), 2),
        record(Revision(4), Body::Requests(mixed)),
        undoing(Revision(5), &[id]),
        extending(Revision(6), id, 123_456),
        ticking(Revision(7)),
        record(Revision(8), Body::Policy { policy: Policy::default(), actor: "root".into(), peer: "192.0.2.1".into() }),
        changing_credentials(Revision(9), CredentialAction::Create(Box::new(credential(Revision(9), 7)))),
        changing_credentials(Revision(10), CredentialAction::Create(Box::new(plain))),
        changing_credentials(Revision(11), CredentialAction::Revoke(vec![CredentialId([7; 8]), CredentialId([8; 8])])),
        record(Revision(12), Body::Verification(Arc::new(applied_policy(Revision(12), 1)))),
    ]
}
