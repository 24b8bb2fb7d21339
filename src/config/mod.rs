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

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::replica::{SERVERS_MAX, ServerUrl};
use crate::surface::Address;

pub use agent::{AgentConfig, AgentName, AgentNameError, AgentOverrides, parse_max_staleness};
pub use duration::{DurationError, SpanError, parse_duration, render_duration};
pub use server::{AUDIT_RETENTION, LISTEN, OPS_LISTEN, Overrides, ServerConfig, StatePlaces};

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
    /// An address that others can reach, without `--insecure`.
    #[error(
        "{key} is {address}, which others can reach, and there is no authentication yet: anyone could revoke and \
         reinstate. Listen on loopback (127.0.0.1 or [::1]) or a Unix socket, or pass --insecure if the network is trusted"
    )]
    Exposed {
        /// Which address.
        key: &'static str,
        /// What it is.
        address: Address,
    },
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

/// Refuses addresses that others can reach, unless the network is trusted, and one port for both.
fn check_addresses(listen: &Address, ops_listen: SocketAddr, insecure: bool) -> Result<(), ConfigError> {
    for (key, address) in [("listen", listen), ("ops_listen", &ops_listen.into())] {
        if !insecure && !address.is_local() {
            return Err(ConfigError::Exposed { key, address: address.clone() });
        }
    }
    if listen.tcp() == Some(ops_listen) && ops_listen.port() != 0 {
        return Err(ConfigError::SamePort(ops_listen));
    }
    Ok(())
}
