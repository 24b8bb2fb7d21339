//! What is configured of TLS and authentication, and what must be given together.
//!
//! Names files and opens none of them: `rescind config check` and the start read them.

use std::path::PathBuf;

use super::ConfigError;
use super::file::{File, Place};
use crate::security::tls::{ClientAuthority, ClientFiles, ClientIdentity, ServerFiles};
use crate::security::{BearerSource, ClientSecurity};

/// The TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where it comes from.
    pub files: ServerFiles,
    /// Whether the operators' port speaks it, too.
    pub ops: bool,
}

/// What an agent trusts and shows upstream, and what a command or a service does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Whom it trusts, and the certificate that it shows.
    pub files: ClientFiles,
    /// Where its API credential is.
    pub credential_file: Option<PathBuf>,
}

impl UpstreamConfig {
    /// What is made of it. Reads nothing yet.
    #[must_use]
    pub fn security(&self) -> ClientSecurity {
        ClientSecurity::of(self.files.clone(), self.credential_file.clone().map(BearerSource::File))
    }
}

/// Files as they were given one by one; `None` where nothing was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamOverrides {
    /// Those who sign servers' certificates.
    pub ca: Option<PathBuf>,
    /// The certificate shown to servers.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub private_key: Option<PathBuf>,
    /// The API credential.
    pub credential_file: Option<PathBuf>,
}

impl TlsConfig {
    /// What the file says; `None`, if it says nothing.
    pub(super) fn of(file: &File) -> Result<Option<Self>, ConfigError> {
        let tls = &file.tls;
        let needs = |is_set: bool, key, on: &Option<Place>, needs| match on {
            None if is_set => Err(ConfigError::Needs { key, needs }),
            _ => Ok(()),
        };
        needs(tls.certificate.is_some(), "tls.certificate", &tls.private_key, "tls.private_key")?;
        needs(tls.private_key.is_some(), "tls.private_key", &tls.certificate, "tls.certificate")?;
        needs(tls.client_ca.is_some(), "tls.client_ca", &tls.certificate, "tls.certificate")?;
        needs(tls.client_crl.is_some(), "tls.client_crl", &tls.client_ca, "tls.client_ca")?;
        needs(tls.require_client_certificate, "tls.require_client_certificate", &tls.client_ca, "tls.client_ca")?;
        needs(tls.ops, "tls.ops", &tls.certificate, "tls.certificate")?;
        let (Some(certificate), Some(private_key)) = (&tls.certificate, &tls.private_key) else { return Ok(None) };
        let clients = tls.client_ca.as_ref().map(|authorities| ClientAuthority {
            authorities: authorities.0.clone(),
            revoked: tls.client_crl.as_ref().map(|list| list.0.clone()),
            is_required: tls.require_client_certificate,
        });
        let files = ServerFiles { certificate: certificate.0.clone(), private_key: private_key.0.clone(), clients };
        Ok(Some(Self { files, ops: tls.ops }))
    }
}

impl UpstreamConfig {
    /// What flags say, and the file where they say nothing.
    pub(super) fn of(file: &File, overrides: &UpstreamOverrides) -> Result<Self, ConfigError> {
        let either = |flag: &Option<PathBuf>, key: &Option<Place>| {
            flag.clone().or_else(|| key.as_ref().map(|place| place.0.clone()))
        };
        let upstream = &file.upstream;
        let identity = match (
            either(&overrides.certificate, &upstream.certificate),
            either(&overrides.private_key, &upstream.private_key),
        ) {
            (Some(certificate), Some(private_key)) => Some(ClientIdentity { certificate, private_key }),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::Needs {
                    key: "upstream.certificate",
                    needs: "upstream.private_key (--upstream-key-file)",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::Needs {
                    key: "upstream.private_key",
                    needs: "upstream.certificate (--upstream-certificate-file)",
                });
            }
        };
        let authorities = either(&overrides.ca, &upstream.ca);
        let credential_file = either(&overrides.credential_file, &upstream.credential_file);
        Ok(Self { files: ClientFiles { authorities, identity }, credential_file })
    }
}
