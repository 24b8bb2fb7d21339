//! Reaching a server, and what is shown to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use crate::replica::{SERVERS_MAX, ServerUrl};
use crate::security::on_one_line;
use crate::security::tls::{ClientFiles, ClientIdentity};
use crate::security::{BearerSource, ClientSecurity};
use crate::wire::{Calls, DialError, Dialler};

/// How long an answer may take: a full batch on a slow disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: a page of 1,000 revocations with the longest selectors.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which servers to ask, and as whom.
#[derive(Clone, Debug, Args)]
pub(super) struct Servers {
    /// The servers to ask, in order: the next one if a connection fails. A server on this machine may be the path of its
    /// Unix socket, as in unix:/run/rescind.sock.
    #[arg(
        long,
        value_name = "URL[,URL…]",
        env = "RESCIND_SERVER",
        default_value = "http://127.0.0.1:7009",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(super) server: Vec<ServerUrl>,
    /// The certificates (PEM) of those who may sign an https:// server's; without it, those that the system trusts.
    #[arg(long, value_name = "FILE", env = "RESCIND_CA_FILE", hide_env_values = true)]
    ca_file: Option<PathBuf>,
    /// The certificate (PEM) that is shown to servers that ask for one.
    #[arg(long, value_name = "FILE", env = "RESCIND_CERTIFICATE_FILE", hide_env_values = true, requires = "key_file")]
    certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", env = "RESCIND_KEY_FILE", hide_env_values = true, requires = "certificate_file")]
    key_file: Option<PathBuf>,
    /// A file that holds the API credential shown to servers; nobody else may be able to read it.
    #[arg(long, value_name = "FILE", env = "RESCIND_CREDENTIAL_FILE", hide_env_values = true)]
    pub(super) credential_file: Option<PathBuf>,
}

impl Servers {
    /// Whom it trusts, and the certificate it shows.
    pub(super) fn tls(&self) -> ClientFiles {
        let pair = self.certificate_file.clone().zip(self.key_file.clone());
        let identity = pair.map(|(certificate, private_key)| ClientIdentity { certificate, private_key });
        ClientFiles { authorities: self.ca_file.clone(), identity }
    }

    /// A connection to the first server that can be reached.
    pub(super) async fn connect(&self) -> Result<Calls, Failure> {
        self.connect_for(Duration::ZERO).await
    }

    /// The same, for answers that take so much longer because they wait for something.
    pub(super) async fn connect_for(&self, waiting: Duration) -> Result<Calls, Failure> {
        let credential = self.credential_file.clone().map(BearerSource::File);
        let security = Arc::new(ClientSecurity::of(self.tls(), credential));
        security.check().map_err(|error| Failure::cannot(on_one_line(&error)))?;
        let (mut failures, mut is_denied) = (Vec::new(), false);
        for url in self.server.iter().take(SERVERS_MAX) {
            let dialler = Dialler::new(url.clone(), Arc::clone(&security));
            let dialler = dialler.map_err(|error| Failure::cannot(error.to_string()))?;
            match dialler.dial(|endpoint| endpoint.timeout(ANSWER_TIMEOUT + waiting)).await {
                Ok(calls) => return Ok(calls),
                Err(error @ (DialError::Tls(_) | DialError::Credential(_))) => {
                    return Err(Failure::cannot(on_one_line(&error)));
                }
                Err(DialError::Denied(why)) => {
                    is_denied = true;
                    failures.push(format!("{url}: {why}"));
                }
                Err(DialError::Unreachable(why)) => failures.push(format!("{url}: {why}")),
            }
        }
        let message = format!("no server can be reached ({})", failures.join("; "));
        Err(if is_denied { Failure::denied(message) } else { Failure::unreachable(message) })
    }
}
