//! What a client is told before it starts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Client;
use crate::clock::Clock;
use crate::replica::cache::{self, CacheError};
use crate::replica::{
    Driver, DriverOptions, FollowerOptions, InClear, NAME_BYTES_MAX, NodeId, Observe, PolicyInForce, PublicKey,
    SERVERS_MAX, ServerUrl, Upstream,
};
use crate::revocation::{LifetimePolicy, WhenStale};
use crate::security::tls::{ClientFiles, ClientIdentity};
use crate::security::{Bearer, BearerSource, ClientSecurity, ClientSecurityError, IssuerDocuments};
use crate::token::keys::KeyRing;
use crate::wire::upstream::{GrpcUpstream, UrlError};

/// Settings of a [`Client`]. What is left out goes by the authority's logged policy.
#[must_use]
pub struct Builder {
    urls: Vec<String>,
    name: String,
    policy: Option<PolicyInForce>,
    lifetime_policy: LifetimePolicy,
    public_key: Option<PublicKey>,
    entries_max: Option<u64>,
    disk_cache: Option<PathBuf>,
    tls: ClientFiles,
    issuer_tls: ClientFiles,
    credential: Option<BearerSource>,
    observer: Option<Box<dyn Observe>>,
    clock: Clock,
}

/// Why a client cannot start. Servers that cannot be reached are not among the reasons: it goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// None, or too many.
    #[error("a client has 1 to {SERVERS_MAX} servers, {given} given")]
    Servers {
        /// How many were given.
        given: usize,
    },
    /// One of them is not a URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A credential would be sent to one of them in clear.
    #[error(transparent)]
    InClear(#[from] InClear),
    /// A certificate, a key or a credential cannot be used.
    #[error(transparent)]
    Security(#[from] ClientSecurityError),
    /// The name is too long, or would not stay on one line.
    #[error("a name has at most {NAME_BYTES_MAX} bytes and no control characters, {given} bytes given")]
    Name {
        /// Its length in bytes.
        given: usize,
    },
    /// The background task needs a tokio runtime around the caller.
    #[error("no tokio runtime is running here")]
    NoRuntime,
    /// The system gives no random bytes.
    #[error("no random bytes: {0}")]
    NoRandomness(#[from] getrandom::Error),
    /// The cache directory cannot be used at all.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl Builder {
    pub(super) fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            name: String::new(),
            policy: None,
            lifetime_policy: LifetimePolicy::Warn,
            public_key: None,
            entries_max: None,
            disk_cache: None,
            tls: ClientFiles::default(),
            issuer_tls: ClientFiles::default(),
            credential: None,
            observer: None,
            clock: Clock::system(),
        }
    }

    /// How people recognise this process among the subscribers; at most 128 bytes, no control characters.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The staleness accepted here, in whole seconds. Counts where it is stricter than the authority's.
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        let whole = Duration::from_secs(max_staleness.as_secs());
        self.policy = Some(PolicyInForce { max_staleness: whole, ..self.policy.unwrap_or(PolicyInForce::LOOSEST) });
        self
    }

    /// What happens beyond it. Counts where it is stricter than the authority's.
    pub fn when_stale(mut self, when_stale: WhenStale) -> Self {
        self.policy = Some(PolicyInForce { when_stale, ..self.policy.unwrap_or(PolicyInForce::LOOSEST) });
        self
    }

    /// What a miss means for a token that outlives revocations. Counts where it is stricter than the authority's.
    pub fn lifetime_policy(mut self, lifetime_policy: LifetimePolicy) -> Self {
        self.lifetime_policy = lifetime_policy;
        self
    }

    /// The authority's key, as `rescind status` shows it. Without it the first key that proves itself is kept as long as
    /// the process lives: good for development.
    pub fn public_key(mut self, public_key: PublicKey) -> Self {
        self.public_key = Some(public_key);
        self
    }

    /// The most entries this process may hold, about 48 bytes each; a larger set is refused as a whole (`OVER_LIMIT`).
    pub fn entries_max(mut self, entries_max: u64) -> Self {
        self.entries_max = Some(entries_max);
        self
    }

    /// Keeps what proves the set in this directory, made if need be, and begins from it the next time: then checks are
    /// answered before any server is, as infinitely stale (`Unknown`: `STALE` where policy denies) until one is reached.
    /// One process at a time; its own directory for each. Of what is damaged or another authority's nothing is used.
    ///
    /// Whoever can write there can withhold revocations until a server is reached: keep it as you keep the binary.
    pub fn disk_cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.disk_cache = Some(dir.into());
        self
    }

    /// Whom it trusts at `https://` servers, and the certificate it shows to those that ask. By default it trusts whom the
    /// system trusts and shows none. The files are read now, and again for each connection, so that they can be replaced
    /// while the process runs; one that has become unusable changes nothing.
    pub fn tls(mut self, files: ClientFiles) -> Self {
        self.tls = files;
        self
    }

    /// Trusts those whose certificates (PEM) are in this file, and nobody else.
    pub fn ca_file(mut self, authorities: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Some(authorities.into());
        self
    }

    /// Fetches the keys of issuers only from servers that those in this file (PEM) vouch for. By default from those whom the
    /// system trusts: [`Builder::ca_file`] is for the servers of revocations.
    pub fn issuer_ca_file(mut self, authorities: impl Into<PathBuf>) -> Self {
        self.issuer_tls.authorities = Some(authorities.into());
        self
    }

    /// Shows this certificate (PEM, followed by those that lead to its authority), of this private key (PEM).
    pub fn certificate_files(mut self, certificate: impl Into<PathBuf>, private_key: impl Into<PathBuf>) -> Self {
        let (certificate, private_key) = (certificate.into(), private_key.into());
        self.tls.identity = Some(ClientIdentity { certificate, private_key });
        self
    }

    /// Shows this API credential. It is sent in TLS, and on this machine, only: [`Builder::connect`] refuses any other
    /// server.
    pub fn credential(mut self, credential: Bearer) -> Self {
        self.credential = Some(BearerSource::Text(credential));
        self
    }

    /// Shows the API credential in this file, which nobody but its owner may be able to open; read again for each
    /// connection.
    pub fn credential_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credential = Some(BearerSource::File(path.into()));
        self
    }

    /// Is told of every revision, swap and alarm in order, on the background task: it must be quick and never wait.
    pub fn observe(mut self, observer: impl Observe + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Another source of time, for tests.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Starts following in the background, on the tokio runtime of the caller, and returns at once; with
    /// [`Builder::disk_cache`], once that was read and verified.
    ///
    /// # Errors
    /// When a setting is wrong, outside a runtime, or when another process uses the cache directory.
    pub fn connect(self) -> Result<Client, ClientError> {
        let given = self.urls.len();
        if given == 0 || given > SERVERS_MAX {
            return Err(ClientError::Servers { given });
        }
        let security = Arc::new(ClientSecurity::of(self.tls.clone(), self.credential.clone()));
        security.check()?;
        ClientSecurity::of(self.issuer_tls.clone(), None).check()?;
        let upstream = |url: &String| {
            let url: ServerUrl = url.parse()?;
            let upstream = GrpcUpstream::secured(&url, Arc::clone(&security))?;
            Ok(Arc::new(upstream) as Arc<dyn Upstream>)
        };
        let upstreams = self.urls.iter().map(upstream).collect::<Result<Vec<_>, ClientError>>()?;
        self.start(upstreams)
    }

    /// Starts following these upstreams.
    pub(super) fn start(self, upstreams: Vec<Arc<dyn Upstream>>) -> Result<Client, ClientError> {
        if self.name.len() > NAME_BYTES_MAX || self.name.contains(char::is_control) {
            return Err(ClientError::Name { given: self.name.len() });
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| ClientError::NoRuntime)?;
        let (mut id, mut seed) = ([0; 16], [0; 8]);
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut seed)?;
        let leaf = FollowerOptions::leaf(NodeId(id), &self.name, u64::from_le_bytes(seed));
        let follower = FollowerOptions {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            public_key: self.public_key,
            entries_max: self.entries_max.unwrap_or(leaf.entries_max),
            local_policy: self.policy,
            lifetime_policy: self.lifetime_policy,
            ..leaf
        };
        let open = |dir: &PathBuf| cache::open(dir, follower.entries_max, self.clock.clone());
        let cache = self.disk_cache.as_ref().map(open).transpose()?;
        let options = DriverOptions {
            follower,
            upstreams,
            clock: self.clock.clone(),
            observer: self.observer,
            keepers: Vec::new(),
            below: None,
            cache,
        };
        let keys = KeyRing::new(Arc::new(IssuerDocuments::trusting(self.issuer_tls)), runtime.clone());
        Ok(Client { driver: Arc::new(Driver::spawn(options, &runtime)), keys, clock: self.clock })
    }
}

/// Without the observer, which need not have a form for people.
impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("urls", &self.urls).field("name", &self.name).finish_non_exhaustive()
    }
}
