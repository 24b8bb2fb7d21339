//! Who a caller is, and whether he may: the door of a server that asks.
//!
//! ```text
//! certificate names ─┐
//!                    ├─ identify ──▶ Identity ── admit(call) ──▶ in, or a Denial
//! credential, token ─┘      ▲
//!          principals file ─┴─ credentials of the journal, keys of issuers
//! ```
//!
//! Reads no socket and writes no answer.
//!
//! # Invariants
//! - A1. Whoever presents a credential or a token is who that says, or nobody: a certificate never makes up for one that is
//!   not accepted.
//! - A2. A certificate that stands for another principal than what is beside it, or for two principals, stands for
//!   nobody. One that stands for no principal changes nothing: in a mesh everybody has one.
//! - A3. Nothing that is answered tells an id that exists from one that does not; nor does the time it takes.
//! - A4. A credential of the journal is never accepted on what was known before the last change of credentials; a principal
//!   never on what the file said before the last reload.
//! - A5. A file that cannot be read or understood changes nothing.

mod book;
mod denial;
#[cfg(test)]
mod tests;
mod token;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use book::{Identity, Proof};
pub use denial::{Claimed, Denial, DenialReason};
pub use token::{Held, Tokens};

use super::basic::Basic;
use super::call::{Call, Need};
use super::certificate::CertificateNames;
use super::credential::{PREFIX, Presented};
use super::principals::{Principals, PrincipalsError};
use crate::clock::Clock;
use crate::revocation::ports::{CredentialHash, CredentialId, Credentials};
use book::{Book, Known, Spenders};

/// The requests per second of one principal, unless told otherwise: more than one gateway on one machine asks, less than
/// would keep the others out.
pub const REQUESTS_PER_SECOND: u32 = 50_000;

/// When to ask again who could not be told whether his token is good.
const RETRY_UNCLEAR: Duration = Duration::from_secs(1);
/// How long a request waits for keys that its token names and nobody knows yet.
const KEYS_WITHIN: Duration = Duration::from_secs(2);

/// Compared with when there is no such credential, so that this takes as long (A3).
const NO_CREDENTIAL: CredentialHash = CredentialHash { salt: [0; 16], digest: [0; 32] };

/// How callers are asked who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The principals file.
    pub principals: PathBuf,
    /// The most requests of one principal in a second, [`REQUESTS_PER_SECOND`] by default.
    pub requests_per_second: u32,
}

/// What a request brings to prove who sends it.
#[derive(Clone, Copy, Default)]
pub struct Brought<'a> {
    /// The names of the client certificate that was verified.
    pub certificate: Option<&'a CertificateNames>,
    /// What stands in `authorization`.
    pub authorization: Option<&'a [u8]>,
    /// There are several of those.
    pub is_repeated: bool,
    /// HTTP Basic will do, too: a principal's name, and a credential of his.
    pub may_be_basic: bool,
}

/// What stands in `authorization`.
enum Shown<'a> {
    Credential(Presented),
    Basic(Basic),
    Token(&'a str),
}

/// The door.
pub struct Access {
    options: Options,
    book: ArcSwap<Book>,
    spenders: parking_lot::Mutex<Spenders>,
    /// Held through a reload, so that two do not overtake each other; taken before `spenders`.
    reloading: parking_lot::Mutex<()>,
    credentials: Option<Arc<dyn Credentials>>,
    tokens: Option<Tokens>,
    known: Known,
    /// Counts the changes of the file and of credentials; whoever was let in before must ask again.
    generation: watch::Sender<u64>,
    failed_reloads: AtomicU64,
    clock: Clock,
}

impl Access {
    /// Opens the door to the principals of the file and, of an authority, the credentials of its journal. Without `tokens`
    /// nobody is known by one.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(
        options: Options,
        credentials: Option<Arc<dyn Credentials>>,
        tokens: Option<Tokens>,
        clock: Clock,
    ) -> Result<Arc<Self>, PrincipalsError> {
        let principals = Principals::read(&options.principals)?;
        let mut spenders = Spenders::new(options.requests_per_second);
        let book = ArcSwap::from_pointee(Book::new(principals, &mut spenders));
        if let Some(tokens) = &tokens {
            tokens.keys.follow(book.load().tokens().policy());
        }
        Ok(Arc::new(Self {
            options,
            book,
            spenders: parking_lot::Mutex::new(spenders),
            reloading: parking_lot::Mutex::default(),
            credentials,
            tokens,
            known: Known::default(),
            generation: watch::Sender::new(0),
            failed_reloads: AtomicU64::new(0),
            clock,
        }))
    }

    /// Reads the file again; how many principals it holds. From then on nobody else is let in, and whoever was is asked
    /// again.
    ///
    /// # Errors
    /// When the file cannot be used: what it said before stays in force (A5).
    pub fn reload(&self) -> Result<usize, PrincipalsError> {
        let _turn = self.reloading.lock();
        let principals = match Principals::read(&self.options.principals) {
            Ok(principals) => principals,
            Err(error) => {
                self.failed_reloads.fetch_add(1, Ordering::Relaxed);
                return Err(error);
            }
        };
        let count = principals.count();
        let book = Book::new(principals, &mut self.spenders.lock());
        if let Some(tokens) = &self.tokens {
            tokens.keys.follow(book.tokens().policy());
        }
        self.book.store(Arc::new(book));
        self.begin_generation();
        Ok(count)
    }

    /// The file that is read.
    #[must_use]
    pub fn principals_file(&self) -> &std::path::Path {
        &self.options.principals
    }

    /// How often a reload failed.
    #[must_use]
    pub fn failed_reloads(&self) -> u64 {
        self.failed_reloads.load(Ordering::Relaxed)
    }

    /// How many principals the file holds.
    #[must_use]
    pub fn principal_count(&self) -> usize {
        self.book.load().count()
    }

    /// Told of every change after which those who were let in must be asked again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Lets whoever may make a call in, and counts the request.
    ///
    /// # Errors
    /// When he may not; nothing was done.
    pub fn admit(&self, call: Call, brought: Brought<'_>) -> Result<Option<Arc<Identity>>, Denial> {
        let need = call.need();
        if need == Need::Nothing {
            return Ok(None);
        }
        let identity = self.identify(brought).map_err(|denial| denial.of(call))?;
        self.allow(&identity, need).map_err(|denial| denial.of(call))?;
        Ok(Some(identity))
    }

    /// Who it is that brings this; counts the request.
    ///
    /// # Errors
    /// When that is nobody who is known, or one who asks too often.
    pub fn identify(&self, brought: Brought<'_>) -> Result<Arc<Identity>, Denial> {
        let by_certificate = self.by_certificate(brought.certificate)?;
        let by_credential = match (brought.is_repeated, brought.authorization) {
            (true, _) => return Err(Denial::nobody(DenialReason::Malformed, Claimed::Nobody)),
            (false, Some(authorization)) => Some(self.by_authorization(authorization, brought.may_be_basic)?),
            (false, None) => None,
        };
        let identity = match (by_certificate, by_credential) {
            (Some(one), Some(other)) if one.name() != other.name() => {
                return Err(Denial::nobody(DenialReason::Conflict, other.claimed()));
            }
            (_, Some(identity)) | (Some(identity), None) => identity,
            (None, None) if brought.certificate.is_some() => {
                return Err(Denial::nobody(DenialReason::Unknown, Claimed::Nobody));
            }
            (None, None) => return Err(Denial::nobody(DenialReason::Missing, Claimed::Nobody)),
        };
        identity.spending().request(self.clock.boot()).map_err(|too_much| {
            Denial::too_much(DenialReason::TooManyRequests, identity.claimed(), too_much.retry_after)
        })?;
        Ok(identity)
    }

    /// Waits for newer keys of the issuer that a [`Denial`] names; whether to try again.
    pub async fn newer_keys(&self, issuer: &str) -> bool {
        match &self.tokens {
            Some(tokens) => tokens.keys.newer(issuer, KEYS_WITHIN).await,
            None => false,
        }
    }

    /// Whether a certificate stands for somebody, if only for two at once: then it says who asks for another (`/authz`), and
    /// what stands in `authorization` is that other's.
    #[must_use]
    pub fn knows(&self, certificate: &CertificateNames) -> bool {
        !matches!(self.by_certificate(Some(certificate)), Ok(None))
    }

    /// Counts writes against what the identity was granted.
    ///
    /// # Errors
    /// When that is too much.
    pub fn count_writes(&self, identity: &Identity, count: usize) -> Result<(), Denial> {
        let Some(limit) = identity.grant().writes_per_minute else { return Ok(()) };
        let counted = identity.spending().write(self.clock.boot(), limit, count as u64);
        counted.map_err(|too_much| {
            Denial::too_much(DenialReason::TooManyWrites { limit }, identity.claimed(), too_much.retry_after)
        })
    }

    /// Whether somebody who was let in before still is who he was, and may do what he needs to.
    ///
    /// # Errors
    /// When not.
    pub fn renew(&self, identity: &Identity, need: Need) -> Result<Arc<Identity>, Denial> {
        let lost = |reason| Denial::nobody(reason, identity.claimed());
        let now = match identity.proof() {
            Proof::Certificate(name) => self.book.load().certificate(name),
            Proof::Credential { id, hash } => {
                let found = self.find(*id).map(|(identity, found)| (identity, found == *hash));
                found.filter(|(_, is_same)| *is_same).map(|(identity, _)| identity)
            }
            Proof::Token(held) => {
                let tokens = self.tokens.as_ref();
                let renewed = tokens.and_then(|tokens| tokens.renew(held, self.book.load().tokens()));
                renewed.map(|(name, grant)| Arc::new(identity.renewed(name, grant)))
            }
        };
        let now = now.filter(|now| now.name() == identity.name()).ok_or(lost(DenialReason::Unknown))?;
        if now.is_over(self.clock.wall()) {
            return Err(lost(DenialReason::Expired));
        }
        self.allow(&now, need)?;
        Ok(now)
    }

    /// How long somebody stays who he is, if nothing else changes; `None`: for good.
    #[must_use]
    pub fn remaining(&self, identity: &Identity) -> Option<Duration> {
        let wall = self.clock.wall();
        identity.expires_at().map(|at| Duration::from_millis(at.0.saturating_mul(1000).saturating_sub(wall.0)))
    }

    fn allow(&self, identity: &Identity, need: Need) -> Result<(), Denial> {
        if need.allows(identity.grant().roles) { Ok(()) } else { Err(Denial::role(identity, need)) }
    }

    fn by_certificate(&self, names: Option<&CertificateNames>) -> Result<Option<Arc<Identity>>, Denial> {
        let Some(names) = names else { return Ok(None) };
        let book = self.book.load();
        let mut found: Option<Arc<Identity>> = None;
        for identity in book.by_certificate(names) {
            if found.as_ref().is_some_and(|before| before.name() != identity.name()) {
                return Err(Denial::nobody(DenialReason::Conflict, identity.claimed()));
            }
            found = Some(Arc::clone(identity));
        }
        Ok(found)
    }

    fn by_authorization(&self, authorization: &[u8], may_be_basic: bool) -> Result<Arc<Identity>, Denial> {
        match shown(authorization, may_be_basic)? {
            Shown::Credential(presented) => self.by_credential(&presented),
            Shown::Token(token) => self.by_token(token),
            Shown::Basic(basic) => {
                let identity = self.by_credential(&basic.credential)?;
                // As if the secret were wrong: it is not that principal's.
                let claimed = Claimed::Credential(basic.credential.id);
                let is_his = basic.names(identity.name());
                if is_his { Ok(identity) } else { Err(Denial::nobody(DenialReason::Unknown, claimed)) }
            }
        }
    }

    fn by_token(&self, token: &str) -> Result<Arc<Identity>, Denial> {
        let book = self.book.load();
        let tokens = self.tokens.as_ref().filter(|_| book.tokens().count() > 0);
        let tokens = tokens.ok_or_else(|| Denial::nobody(DenialReason::Malformed, Claimed::Nobody))?;
        let bearer = tokens.judge(token, book.tokens(), self.clock.wall())?;
        Ok(Arc::new(Identity::of_token(bearer, &mut self.spenders.lock())))
    }

    fn by_credential(&self, presented: &Presented) -> Result<Arc<Identity>, Denial> {
        let claimed = || Claimed::Credential(presented.id);
        let found = self.find(presented.id);
        let hash = found.as_ref().map_or(NO_CREDENTIAL, |(_, hash)| *hash);
        let agrees = presented.secret.agrees(&hash);
        let Some((identity, _)) = found.filter(|_| agrees) else {
            return Err(Denial::nobody(DenialReason::Unknown, claimed()));
        };
        if identity.is_over(self.clock.wall()) {
            return Err(Denial::nobody(DenialReason::Expired, claimed()));
        }
        Ok(identity)
    }

    /// Of the file first: what an operator wrote there beats what was created by a call.
    fn find(&self, id: CredentialId) -> Option<(Arc<Identity>, CredentialHash)> {
        if let Some(found) = self.book.load().credential(id) {
            return Some(found);
        }
        let credentials = self.credentials.as_ref()?;
        // Before it is looked up: whatever changes from here on is looked up again.
        let changes = credentials.changes();
        if let Some(found) = self.known.find(id, changes) {
            return Some(found);
        }
        let credential = credentials.find(id)?;
        let hash = credential.hash;
        let identity = Arc::new(Identity::of_journal(credential, &mut self.spenders.lock()));
        self.known.keep(id, changes, Arc::clone(&identity), hash);
        Some((identity, hash))
    }

    /// Asks everybody again who was let in: credentials have come or gone.
    pub fn begin_generation(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

/// What stands in `authorization`.
fn shown(authorization: &[u8], may_be_basic: bool) -> Result<Shown<'_>, Denial> {
    let malformed = || Denial::nobody(DenialReason::Malformed, Claimed::Nobody);
    let text = std::str::from_utf8(authorization).map_err(|_| malformed())?;
    let (scheme, rest) = text.split_once(' ').ok_or_else(malformed)?;
    let rest = rest.trim_matches(' ');
    if may_be_basic && scheme.eq_ignore_ascii_case("basic") {
        return Basic::parse(rest).map(Shown::Basic).map_err(|_| malformed());
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    match rest.parse() {
        Ok(presented) => Ok(Shown::Credential(presented)),
        // Nearly a credential is none; neither is it a token.
        Err(_) if rest.starts_with(PREFIX) || !rest.contains('.') => Err(malformed()),
        Err(_) => Ok(Shown::Token(rest)),
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("options", &self.options).finish_non_exhaustive()
    }
}
