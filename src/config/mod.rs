//! Reads flags, environment and file into one checked configuration, before anything is opened or bound.
//!
//! A flag beats the environment, which beats the file, which beats the default. Keys, units and defaults are listed in
//! `docs/configuration.md`. Unknown keys are refused.

mod agent;
mod duration;
mod file;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::replica::{InClear, SERVERS_MAX, ServerUrl};
use crate::surface::Address;

pub use agent::{AgentConfig, AgentName, AgentNameError, AgentOverrides, parse_max_staleness};
pub use duration::{DurationError, SpanError, parse_duration, render_duration};
pub use server::{AUDIT_RETENTION, LISTEN, OPS_LISTEN, Overrides, SNAPSHOT_BYTES_MIN, ServerConfig, StatePlaces};
pub use tls::{TlsConfig, UpstreamConfig, UpstreamOverrides};

use file::File;

/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("the configuration file {} has {bytes} bytes, at most {FILE_BYTES_MAX} are read", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file says something that it cannot.
    #[error("{}: {message}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Line, key, and what was expected.
        message: String,
    },
    /// An address that others can reach, without what that takes and without `--insecure`.
    #[error(
        "{key} is {address}, which others can reach, and there is no {lacks}. Listen on loopback (127.0.0.1 or [::1]) or a \
         Unix socket, set {needs}, or pass --insecure if the network is trusted"
    )]
    Exposed {
        /// Which address.
        key: &'static str,
        /// What it is.
        address: Address,
        /// What is not there.
        lacks: &'static str,
        /// The keys that say it.
        needs: &'static str,
    },
    /// A setting that means nothing without another.
    #[error("{key} is set and {needs} is not: it takes both")]
    Needs {
        /// The one that is set.
        key: &'static str,
        /// The one that is not.
        needs: &'static str,
    },
    /// A credential would be sent where others can read it.
    #[error(transparent)]
    InClear(#[from] InClear),
    /// Two listeners on one port.
    #[error("listen and ops_listen are both {0}; they need two ports")]
    SamePort(SocketAddr),
    /// Nothing says where data goes.
    #[error("there is no place for data: pass --data-dir, or set STATE_DIRECTORY, XDG_STATE_HOME or HOME")]
    NoDataDir,
    /// An agent that is told the same server twice.
    #[error("the upstream {0} is named twice; name each server once")]
    UpstreamRepeated(ServerUrl),
    /// An agent with nobody to follow, or too many.
    #[error(
        "an agent follows 1 to {SERVERS_MAX} servers, {given} given: pass --upstream URL[,URL…], or set agent.upstreams"
    )]
    Upstreams {
        /// How many were given.
        given: usize,
    },
}

/// What the file says, if there is one.
fn read(path: Option<&Path>) -> Result<File, ConfigError> {
    let Some(path) = path else { return Ok(File::default()) };
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes });
    }
    parse(&std::fs::read_to_string(path).map_err(unreadable)?, path)
}

fn parse(text: &str, path: &Path) -> Result<File, ConfigError> {
    text.parse().map_err(|error: toml::de::Error| ConfigError::Invalid {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// What guards the listeners.
struct Guards<'a> {
    tls: Option<&'a TlsConfig>,
    is_authenticating: bool,
    /// The network is trusted.
    insecure: bool,
}

/// Refuses addresses that others can reach without what that takes, unless the network is trusted; and one port for both.
fn check_addresses(listen: &Address, ops_listen: SocketAddr, guards: &Guards<'_>) -> Result<(), ConfigError> {
    let exposed = |key, address: &Address, lacks, needs| match guards.insecure || address.is_local() {
        true => Ok(()),
        false => Err(ConfigError::Exposed { key, address: address.clone(), lacks, needs }),
    };
    match (guards.tls, guards.is_authenticating) {
        (Some(_), true) => {}
        (None, false) => exposed(
            "listen",
            listen,
            "TLS and no authentication: anyone could revoke, reinstate and read along",
            "tls.certificate, tls.private_key and authentication.principals",
        )?,
        (None, true) => exposed(
            "listen",
            listen,
            "TLS: anyone on the way could read credentials and the set key",
            "tls.certificate and tls.private_key",
        )?,
        (Some(_), false) => {
            exposed("listen", listen, "authentication: anyone could revoke and reinstate", "authentication.principals")?
        }
    }
    if !guards.tls.is_some_and(|tls| tls.ops) {
        exposed("ops_listen", &ops_listen.into(), "TLS on the operators' port", "tls.ops")?;
    }
    if listen.tcp() == Some(ops_listen) && ops_listen.port() != 0 {
        return Err(ConfigError::SamePort(ops_listen));
    }
    Ok(())
}

/// Refuses to send a credential where others can read it.
fn check_confidential(urls: &[ServerUrl], upstream: &UpstreamConfig) -> Result<(), InClear> {
    match upstream.credential_file {
        Some(_) => urls.iter().try_for_each(ServerUrl::require_confidential),
        None => Ok(()),
    }
}
