//! A client's end: whom it trusts, and what it shows of itself.
//!
//! The files are read again for each connection, and what was made of them is kept as long as they say the same: a client
//! needs no task that watches, and its next connection uses what is there then. An agent watches them all the same, so that
//! files that cannot be used are noticed before the next connection.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

use super::error::of_identity;
use super::{ALPN_HTTP2, PEM_BYTES_MAX, TlsError, VERSIONS, authorities, identity, provider};
use crate::security::file::{on_one_line, read_file};

/// Where a client's TLS comes from: PEM files. The default trusts the system's authorities and shows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The certificates of those who sign servers' certificates; `None`: whom the system trusts.
    pub authorities: Option<PathBuf>,
    /// What is shown to servers that ask.
    pub identity: Option<ClientIdentity>,
}

/// A client's certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub private_key: PathBuf,
}

/// A client's TLS.
pub struct ClientTls {
    files: ClientFiles,
    /// Held while files are read, so that many connections at once read them one after the other.
    made: Mutex<Option<Made>>,
}

struct Made {
    /// What the files said, in the last look.
    content: [u8; 32],
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Reads nothing yet.
    #[must_use]
    pub fn of(files: ClientFiles) -> Self {
        Self { files, made: Mutex::new(None) }
    }

    /// Where it comes from.
    #[must_use]
    pub fn files(&self) -> &ClientFiles {
        &self.files
    }

    /// For the next connection. Reads files.
    ///
    /// If they cannot be used any more, what was made of them before goes on, and that is logged once for each change.
    ///
    /// # Errors
    /// When they cannot be used, and never could.
    pub fn current(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut made = self.made.lock();
        let content = self.files.content();
        let made = match &mut *made {
            Some(made) => made,
            None => made.insert(Made { content, config: Arc::new(config(&self.files)?) }),
        };
        if made.content != content {
            made.content = content;
            made.replace(&self.files);
        }
        Ok(Arc::clone(&made.config))
    }

    /// Reads the files now, and puts what they say in force for the next connection.
    ///
    /// # Errors
    /// When they cannot be used. Nothing has changed then.
    #[cfg(feature = "server")]
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut made = self.made.lock();
        let content = self.files.content();
        *made = Some(Made { content, config: Arc::new(config(&self.files)?) });
        Ok(())
    }
}

impl Made {
    fn replace(&mut self, files: &ClientFiles) {
        match config(files) {
            Ok(config) => {
                tracing::info!("the client's TLS files have changed and are in force");
                self.config = Arc::new(config);
            }
            Err(error) => {
                let error = on_one_line(&error);
                tracing::error!(error, "the client's TLS files cannot be used; what was in force before stays");
            }
        }
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ClientFiles {
    /// Those that were named.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let identity = self.identity.as_ref().map(|identity| [&identity.certificate, &identity.private_key]);
        self.authorities.iter().chain(identity.into_iter().flatten())
    }

    /// What they say now. One that cannot be read counts as saying something of its own.
    fn content(&self) -> [u8; 32] {
        let mut all = Sha256::new();
        for path in self.paths() {
            let digest: [u8; 32] =
                read_file(path, PEM_BYTES_MAX).map_or([0; 32], |bytes| Sha256::digest(&*bytes).into());
            all.update(digest);
        }
        all.finalize().into()
    }
}

fn config(files: &ClientFiles) -> Result<ClientConfig, TlsError> {
    let roots = match &files.authorities {
        Some(path) => authorities(path)?,
        None => systems_authorities()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let mut config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some(ClientIdentity { certificate, private_key }) => {
            let (chain, key) = identity(certificate, private_key)?;
            let made = builder.with_client_auth_cert(chain, key);
            made.map_err(|error| of_identity(error, certificate, private_key))?
        }
    };
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    // T4: connections are few and long, and each is to be verified.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Whom the administrator of this machine trusts: their list, not one that ages inside this program.
fn systems_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // A system's list may hold some that are too odd to be used; the others still count.
    let (taken, _) = store.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map_or_else(|| "the system has no list of them".to_owned(), ToString::to_string);
        return Err(TlsError::NoAuthorities { why });
    }
    Ok(store)
}

#[cfg(test)]
mod tests;
