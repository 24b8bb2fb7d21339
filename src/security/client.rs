//! What a client trusts and shows: TLS, and an API credential.

use super::bearer::{Bearer, BearerFileError, BearerSource};
use super::tls::{ClientFiles, ClientTls, TlsError};
#[cfg(feature = "server")]
use super::watch::{ReloadError, Watched};

/// What a client trusts and shows, to all the servers it is given. The default trusts those whom the system trusts and
/// shows nothing.
#[derive(Debug)]
pub struct ClientSecurity {
    tls: ClientTls,
    credential: Option<BearerSource>,
}

/// Why a client cannot show what it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ClientSecurityError {
    /// Its TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its credential cannot be used.
    #[error(transparent)]
    Credential(#[from] BearerFileError),
}

impl ClientSecurity {
    /// Reads nothing yet.
    #[must_use]
    pub fn of(files: ClientFiles, credential: Option<BearerSource>) -> Self {
        Self { tls: ClientTls::of(files), credential }
    }

    /// Reads everything that was named, so that what cannot be used is told at once.
    ///
    /// # Errors
    /// When something cannot be used.
    pub fn check(&self) -> Result<(), ClientSecurityError> {
        if *self.tls.files() != ClientFiles::default() {
            self.tls.current()?;
        }
        self.credential()?;
        Ok(())
    }

    /// Its end of TLS.
    #[must_use]
    pub fn tls(&self) -> &ClientTls {
        &self.tls
    }

    /// Whether it has a credential to show.
    #[must_use]
    pub fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// Its credential, for the next connection. May read a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn credential(&self) -> Result<Option<Bearer>, BearerFileError> {
        self.credential.as_ref().map(BearerSource::read).transpose()
    }
}

impl Default for ClientSecurity {
    fn default() -> Self {
        Self::of(ClientFiles::default(), None)
    }
}

/// The TLS files of an agent. Its credential is not among them: that is read for each connection and never kept.
#[cfg(feature = "server")]
impl Watched for ClientSecurity {
    fn name(&self) -> &'static str {
        "upstream"
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        self.tls.files().paths().cloned().collect()
    }

    fn reload(&self) -> Result<(), ReloadError> {
        Ok(self.tls.reload()?)
    }
}
