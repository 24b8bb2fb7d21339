//! Everybody who can be let in, by what proves it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use super::denial::Claimed;
use super::token::{Bearer, Held};
use crate::revocation::ports::{CREDENTIALS_MAX, Credential, CredentialHash, CredentialId};
use crate::revocation::{Grant, UnixMillis, UnixSeconds};
use crate::security::CertificateNames;
use crate::security::principals::{CertificateName, PRINCIPALS_MAX, Principal, Principals, TokenIssuers};
use crate::security::spending::Spending;

/// The most principals whose spending is remembered; those that nobody is any more are forgotten first.
const SPENDERS_MAX: usize = 2 * (PRINCIPALS_MAX + CREDENTIALS_MAX);

/// Somebody who proved who he is.
#[derive(Debug)]
pub struct Identity {
    principal: Arc<Principal>,
    proof: Proof,
    expires_at: Option<UnixSeconds>,
    spending: Arc<Spending>,
}

/// By what.
#[derive(Clone, Debug)]
pub enum Proof {
    /// A certificate with this name.
    Certificate(CertificateName),
    /// The secret of a credential.
    Credential {
        /// Which one.
        id: CredentialId,
        /// What was kept of it.
        hash: CredentialHash,
    },
    /// A token, of which this is kept.
    Token(Arc<Held>),
}

impl Identity {
    pub(super) fn of_token(bearer: Bearer, spenders: &mut Spenders) -> Self {
        let spending = spenders.of(&bearer.name);
        Self {
            principal: Arc::new(Principal { name: bearer.name, grant: bearer.grant }),
            proof: Proof::Token(bearer.held),
            expires_at: Some(bearer.expires_at),
            spending,
        }
    }

    /// The same bearer of the same token, with what he may do by now.
    pub(super) fn renewed(&self, name: String, grant: Arc<Grant>) -> Self {
        Self {
            principal: Arc::new(Principal { name, grant }),
            proof: self.proof.clone(),
            expires_at: self.expires_at,
            spending: Arc::clone(&self.spending),
        }
    }

    /// Whether a token proved it, which may be revoked at any time.
    #[must_use]
    pub fn is_by_token(&self) -> bool {
        matches!(self.proof, Proof::Token(_))
    }

    pub(super) fn of_journal(credential: Credential, spenders: &mut Spenders) -> Self {
        let spending = spenders.of(&credential.name);
        Self {
            principal: Arc::new(Principal { name: credential.name, grant: Arc::new(credential.grant) }),
            proof: Proof::Credential { id: credential.id, hash: credential.hash },
            expires_at: credential.expires_at,
            spending,
        }
    }

    /// The principal's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.principal.name
    }

    /// What it may do.
    #[must_use]
    pub fn grant(&self) -> &Arc<Grant> {
        &self.principal.grant
    }

    /// Whether a certificate proved it, and nothing else.
    #[must_use]
    pub fn is_by_certificate(&self) -> bool {
        matches!(self.proof, Proof::Certificate(_))
    }

    pub(super) fn proof(&self) -> &Proof {
        &self.proof
    }

    pub(super) fn spending(&self) -> &Spending {
        &self.spending
    }

    pub(super) fn expires_at(&self) -> Option<UnixSeconds> {
        self.expires_at
    }

    pub(super) fn is_over(&self, now: UnixMillis) -> bool {
        self.expires_at.is_some_and(|at| now.0 >= at.0.saturating_mul(1000))
    }

    pub(super) fn claimed(&self) -> Claimed {
        Claimed::Principal(Arc::clone(&self.principal))
    }
}

/// What each principal has spent, over reloads.
pub(super) struct Spenders {
    requests_per_second: u32,
    by_name: HashMap<String, Arc<Spending>>,
}

impl Spenders {
    pub(super) fn new(requests_per_second: u32) -> Self {
        Self { requests_per_second, by_name: HashMap::new() }
    }

    fn of(&mut self, name: &str) -> Arc<Spending> {
        if let Some(spending) = self.by_name.get(name) {
            return Arc::clone(spending);
        }
        if self.by_name.len() >= SPENDERS_MAX {
            self.by_name.retain(|_, spending| Arc::strong_count(spending) > 1);
        }
        let spending = Arc::new(Spending::new(self.requests_per_second));
        self.by_name.insert(name.to_owned(), Arc::clone(&spending));
        spending
    }
}

/// The principals of the file.
pub(super) struct Book {
    spiffe: HashMap<String, Arc<Identity>>,
    dns: HashMap<String, Arc<Identity>>,
    credentials: HashMap<CredentialId, (Arc<Identity>, CredentialHash)>,
    count: usize,
    tokens: TokenIssuers,
}

impl Book {
    pub(super) fn new(principals: Principals, spenders: &mut Spenders) -> Self {
        let count = principals.count();
        let (mut spiffe, mut dns, mut credentials) = (HashMap::new(), HashMap::new(), HashMap::new());
        for listed in principals.iter() {
            let spending = spenders.of(&listed.principal.name);
            let identity = |proof| {
                let (principal, spending) = (Arc::clone(&listed.principal), Arc::clone(&spending));
                Arc::new(Identity { principal, proof, expires_at: None, spending })
            };
            if let Some(name) = &listed.certificate {
                let proven = identity(Proof::Certificate(name.clone()));
                match name {
                    CertificateName::Spiffe(id) => spiffe.insert(id.clone(), proven),
                    CertificateName::Dns(name) => dns.insert(name.clone(), proven),
                };
            }
            if let Some(credential) = &listed.credential {
                let (id, hash) = (credential.id, credential.hash);
                credentials.insert(id, (identity(Proof::Credential { id, hash }), hash));
            }
        }
        Self { spiffe, dns, credentials, count, tokens: principals.into_tokens() }
    }

    pub(super) fn tokens(&self) -> &TokenIssuers {
        &self.tokens
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Everybody that the names of a certificate stand for; DNS names come in lower case.
    pub(super) fn by_certificate<'a>(
        &'a self,
        names: &'a CertificateNames,
    ) -> impl Iterator<Item = &'a Arc<Identity>> + 'a {
        let uris = names.uris.iter().filter_map(|uri| self.spiffe.get(uri));
        uris.chain(names.dns_names.iter().filter_map(|name| self.dns.get(name)))
    }

    pub(super) fn certificate(&self, name: &CertificateName) -> Option<Arc<Identity>> {
        match name {
            CertificateName::Spiffe(id) => self.spiffe.get(id).cloned(),
            CertificateName::Dns(name) => self.dns.get(name).cloned(),
        }
    }

    pub(super) fn credential(&self, id: CredentialId) -> Option<(Arc<Identity>, CredentialHash)> {
        self.credentials.get(&id).cloned()
    }
}

/// Credentials of the journal as they were looked up in this generation; at most as many as there can be.
#[derive(Default)]
pub(super) struct Known(RwLock<Found>);

#[derive(Default)]
struct Found {
    generation: u64,
    by_id: HashMap<CredentialId, (Arc<Identity>, CredentialHash)>,
}

impl Known {
    pub(super) fn find(&self, id: CredentialId, generation: u64) -> Option<(Arc<Identity>, CredentialHash)> {
        let found = self.0.read();
        if found.generation == generation { found.by_id.get(&id).cloned() } else { None }
    }

    /// `generation` is that before it was looked up.
    pub(super) fn keep(&self, id: CredentialId, generation: u64, identity: Arc<Identity>, hash: CredentialHash) {
        let mut found = self.0.write();
        if found.generation > generation {
            return;
        }
        if found.generation < generation || found.by_id.len() >= CREDENTIALS_MAX {
            found.by_id.clear();
            found.generation = generation;
        }
        found.by_id.insert(id, (identity, hash));
    }
}
