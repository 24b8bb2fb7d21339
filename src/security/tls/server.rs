//! A server's end: its certificate, whom it asks for one, and their replacement while it runs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, ServerConfig};
use tokio::sync::watch;

use super::error::of_identity;
use super::{ALPN_HTTP1, ALPN_HTTP2, TlsError, VERSIONS, authorities, identity, pem, provider, validity};
use crate::clock::Clock;
use crate::revocation::UnixSeconds;
use crate::security::watch::{ReloadError, Watched};

/// Sessions kept for resumption, about 1 KiB each; the oldest go.
const SESSIONS_MAX: usize = 1024;
/// A certificate that ends within this time is warned about when it is read.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// Permission bits of "everybody may read".
const READABLE_BY_ALL: u32 = 0o004;

/// Where a server's TLS comes from: PEM files, all of them read again when one changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
    /// Who signs client certificates; `None`: nobody is asked for one.
    pub clients: Option<ClientAuthority>,
}

/// Whom a server asks for certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    /// The certificates of those who sign client certificates.
    pub authorities: PathBuf,
    /// Certificates that they took back. If given, there must be a list of every authority on the way, and one that is
    /// past its next update lets nobody in: what was taken back since is not known.
    pub revoked: Option<PathBuf>,
    /// Whether a client without a certificate is turned away.
    pub is_required: bool,
}

/// A server's TLS, as it is in force.
pub struct ServerTls {
    files: ServerFiles,
    clock: Clock,
    current: ArcSwap<Current>,
    /// Told after each replacement.
    changes: watch::Sender<()>,
}

/// The certificate that a client has shown in a handshake, and those that lead to its authority.
#[derive(Clone, Debug)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    at: UnixTime,
}

/// What was made of the files.
struct Current {
    callers: Arc<ServerConfig>,
    operators: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    not_after: UnixSeconds,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be used. A certificate that does not hold now is no error, but loudly logged.
    pub fn load(files: ServerFiles, clock: Clock) -> Result<Self, TlsError> {
        let current = ArcSwap::from_pointee(Current::read(&files, &clock)?);
        Ok(Self { files, clock, current, changes: watch::Sender::new(()) })
    }

    /// For the next handshake with a caller.
    #[must_use]
    pub fn callers(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().callers)
    }

    /// For the next handshake on the operators' port: probes and scrapers have no certificate, and are asked for none.
    #[must_use]
    pub fn operators(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().operators)
    }

    /// Told of every replacement from now on; take it before the handshake that it is for.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// What a client has shown in a handshake that is just over; `None` if nothing.
    #[must_use]
    pub fn shown(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<Shown> {
        let chain: Vec<_> = chain?.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(self.clock.wall().seconds().0));
        (!chain.is_empty()).then_some(Shown { chain, at })
    }

    /// Waits until a replacement says that what a client has shown is not accepted any more: it is in a revocation list,
    /// or its authority is gone. Judges as of the handshake: certificates and lists that only grow old end nothing.
    pub async fn taken_back(&self, shown: &Shown, mut changes: watch::Receiver<()>) {
        // Fails only once this is gone.
        while changes.changed().await.is_ok() {
            if !self.accepts(shown) {
                return;
            }
        }
    }

    fn accepts(&self, shown: &Shown) -> bool {
        let current = self.current.load();
        let (Some(clients), Some((first, others))) = (&current.clients, shown.chain.split_first()) else { return true };
        match clients.verify_client_cert(first, others, shown.at) {
            Ok(_) => true,
            // A list that is missing says nothing against anybody who is in; nobody new gets in without it.
            Err(Error::InvalidCertificate(error)) => matches!(
                error,
                CertificateError::UnknownRevocationStatus | CertificateError::ExpiredRevocationListContext { .. }
            ),
            Err(_) => false,
        }
    }

    /// When the first certificate of the chain ends.
    #[must_use]
    pub fn not_after(&self) -> UnixSeconds {
        self.current.load().not_after
    }

    /// In how many seconds that is; negative, if it has ended.
    #[must_use]
    pub fn remaining_seconds(&self) -> i64 {
        let [end, now] =
            [self.not_after(), self.clock.wall().seconds()].map(|time| i64::try_from(time.0).unwrap_or(i64::MAX));
        end.saturating_sub(now)
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Watched for ServerTls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn files(&self) -> Vec<PathBuf> {
        let ServerFiles { certificate, private_key, clients } = &self.files;
        let mut files = vec![certificate.clone(), private_key.clone()];
        if let Some(ClientAuthority { authorities, revoked, is_required: _ }) = clients {
            files.push(authorities.clone());
            files.extend(revoked.clone());
        }
        files
    }

    fn reload(&self) -> Result<(), ReloadError> {
        self.current.store(Arc::new(Current::read(&self.files, &self.clock)?));
        self.changes.send_replace(());
        Ok(())
    }
}

impl Current {
    fn read(files: &ServerFiles, clock: &Clock) -> Result<Self, TlsError> {
        let (chain, key) = identity(&files.certificate, &files.private_key)?;
        let not_after = judge(&files.certificate, &chain, clock)?;
        warn_of_readers(&files.private_key);
        let certified = CertifiedKey::from_der(chain, key, &provider())
            .map_err(|error| of_identity(error, &files.certificate, &files.private_key))?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let operators = config(Arc::clone(&certified), None)?;
        let clients = files.clients.as_ref().map(verifier).transpose()?;
        let callers = config(certified, clients.clone())?;
        Ok(Self { callers: Arc::new(callers), operators: Arc::new(operators), clients, not_after })
    }
}

fn config(
    certified: Arc<SingleCertAndKey>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<ServerConfig, TlsError> {
    let resumes = clients.is_none();
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(VERSIONS).map_err(TlsError::Setup)?;
    let mut config = builder
        .with_client_cert_verifier(clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth))
        .with_cert_resolver(certified);
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec()];
    // T4: whoever resumes is not verified again.
    if resumes {
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

fn verifier(clients: &ClientAuthority) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let roots = Arc::new(authorities(&clients.authorities)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if let Some(revoked) = &clients.revoked {
        builder = builder.with_crls(pem::revocation_lists(revoked)?).enforce_revocation_expiration();
    }
    if !clients.is_required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            let path = clients.revoked.clone().unwrap_or_default();
            TlsError::RevocationList { path, why: format!("{error:?}") }
        }
        error => TlsError::NoAuthorities { why: error.to_string() },
    })
}

/// When the chain ends. Warns if it has ended, ends soon or does not hold yet.
fn judge(path: &Path, chain: &[CertificateDer<'_>], clock: &Clock) -> Result<UnixSeconds, TlsError> {
    let unusable = |index: usize| TlsError::Certificate {
        path: path.to_owned(),
        block: index + 1,
        source: rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding),
    };
    let (mut first_end, mut last_begin) = (UnixSeconds(u64::MAX), UnixSeconds(0));
    for (index, certificate) in chain.iter().enumerate() {
        first_end = first_end.min(validity::not_after(certificate).ok_or_else(|| unusable(index))?);
        last_begin = last_begin.max(validity::not_before(certificate).ok_or_else(|| unusable(index))?);
    }
    let now = clock.wall().seconds();
    let path = path.display();
    if first_end < now {
        let ago = now.0 - first_end.0;
        tracing::warn!(%path, seconds_ago = ago, "THE CERTIFICATE HAS EXPIRED: every client refuses it");
    } else if first_end < now.plus(ENDS_SOON.as_secs()) {
        tracing::warn!(%path, seconds = first_end.0 - now.0, "the certificate expires soon");
    }
    if last_begin > now {
        let ahead = last_begin.0 - now.0;
        tracing::warn!(%path, seconds = ahead, "THE CERTIFICATE IS NOT VALID YET: clients refuse it, or a clock is wrong");
    }
    Ok(first_end)
}

/// Not an error: some deployments mount keys so.
fn warn_of_readers(private_key: &Path) {
    let mode = std::fs::metadata(private_key).map_or(0, |file| file.permissions().mode());
    if mode & READABLE_BY_ALL != 0 {
        tracing::warn!(path = %private_key.display(), "everybody on this machine can read the private key");
    }
}

#[cfg(test)]
mod tests;
