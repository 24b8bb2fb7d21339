//! Reads flags, environment and file into one checked configuration, before anything is opened or bound.
//!
//! A flag beats the environment, which beats the file, which beats the default. Keys, units and defaults are listed in
//! `docs/configuration.md`. Unknown keys are refused.

mod duration;
mod file;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::StatusCode;

use crate::revocation::{LifetimePolicy, Policy, WhenStale};
use crate::surface;
use crate::telemetry::LogFormat;

pub use duration::{DurationError, parse_duration, render_duration};
use file::File;

/// Where callers connect, unless told otherwise. RFC 7009 is the number's origin.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7009);
/// Where metrics and health are, unless told otherwise.
pub const OPS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7010);
/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything a server needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where callers connect. Loopback, unless `surface.insecure`.
    pub listen: SocketAddr,
    /// Where metrics and health are. Loopback, unless `surface.insecure`.
    pub ops_listen: SocketAddr,
    /// Where the journal, the index and the snapshots are.
    pub data_dir: PathBuf,
    /// The policy to log.
    pub policy: Policy,
    /// How long expired and reinstated revocations stay in the audit trail.
    pub audit_retention: Duration,
    /// How requests are taken and answered.
    pub surface: surface::Options,
    /// The form of the log.
    pub log: LogFormat,
}

/// What flags and their environment twins say; `None` and `false` when they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`, `RESCIND_CONFIG`.
    pub config: Option<PathBuf>,
    /// `--listen`, `RESCIND_LISTEN`.
    pub listen: Option<SocketAddr>,
    /// `--ops-listen`, `RESCIND_OPS_LISTEN`.
    pub ops_listen: Option<SocketAddr>,
    /// `--data-dir`, `RESCIND_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// `--insecure`.
    pub insecure: bool,
    /// `--log-format`.
    pub log: Option<LogFormat>,
}

/// The places that the environment names for a service's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatePlaces {
    /// `$STATE_DIRECTORY`, as systemd sets it: a list separated by colons, of which the first counts.
    pub state_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
}

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
         reinstate. Listen on loopback (127.0.0.1 or [::1]), or pass --insecure if the network is trusted"
    )]
    Exposed {
        /// Which address.
        key: &'static str,
        /// What it is.
        address: SocketAddr,
    },
    /// Two listeners on one port.
    #[error("listen and ops_listen are both {0}; they need two ports")]
    SamePort(SocketAddr),
    /// Nothing says where data goes.
    #[error("there is no place for data: pass --data-dir, or set STATE_DIRECTORY, XDG_STATE_HOME or HOME")]
    NoDataDir,
}

impl ServerConfig {
    /// The configuration that flags, environment and file make together.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or when what it and the flags say cannot be.
    pub fn load(overrides: &Overrides, places: &StatePlaces) -> Result<Self, ConfigError> {
        let Some(path) = &overrides.config else { return Self::resolve(File::default(), overrides, places) };
        let text = read(path)?;
        Self::from_toml(&text, path, overrides, places)
    }

    /// The same with the file's text already read.
    ///
    /// # Errors
    /// As [`ServerConfig::load`].
    pub fn from_toml(
        text: &str,
        path: &Path,
        overrides: &Overrides,
        places: &StatePlaces,
    ) -> Result<Self, ConfigError> {
        let file = text.parse::<File>().map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        Self::resolve(file, overrides, places)
    }

    fn resolve(file: File, overrides: &Overrides, places: &StatePlaces) -> Result<Self, ConfigError> {
        let insecure = overrides.insecure || file.server.insecure;
        let listen = overrides.listen.or(file.server.listen).unwrap_or(LISTEN);
        let ops_listen = overrides.ops_listen.or(file.server.ops_listen).unwrap_or(OPS_LISTEN);
        check_exposure("listen", listen, insecure)?;
        check_exposure("ops_listen", ops_listen, insecure)?;
        if listen == ops_listen && listen.port() != 0 {
            return Err(ConfigError::SamePort(listen));
        }
        let data_dir = overrides.data_dir.clone().or(file.server.data_dir).or_else(|| places.data_dir());
        let data_dir = data_dir.filter(|dir| !dir.as_os_str().is_empty()).ok_or(ConfigError::NoDataDir)?;
        let defaults = surface::Options::default();
        let unknown_status = file.server.unknown_status.and_then(|code| StatusCode::from_u16(code.0 as u16).ok());
        let surface = surface::Options {
            issuers: file.issuers.into_iter().map(|issuer| issuer.0).collect(),
            hosts: file.server.hosts.into_iter().map(|host| host.0).collect(),
            unknown_status: unknown_status.unwrap_or(defaults.unknown_status),
            connections_max: file.limits.connections.map_or(defaults.connections_max, |count| count.0 as usize),
            insecure,
            data_dir: data_dir.display().to_string(),
        };
        Ok(Self {
            listen,
            ops_listen,
            data_dir,
            policy: policy(&file.policy),
            audit_retention: file.journal.audit_retention.map_or(AUDIT_RETENTION, |span| span.0),
            surface,
            log: overrides.log.or(file.log.format.map(Into::into)).unwrap_or_default(),
        })
    }
}

/// How long the audit trail reaches back, unless told otherwise: 90 days.
pub const AUDIT_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

impl StatePlaces {
    /// What this process's environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { state_directory: path("STATE_DIRECTORY"), xdg_state_home: path("XDG_STATE_HOME"), home: path("HOME") }
    }

    fn data_dir(&self) -> Option<PathBuf> {
        if let Some(list) = &self.state_directory {
            return std::env::split_paths(list).next();
        }
        let state_home = self.xdg_state_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")))?;
        Some(state_home.join("rescind"))
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ConfigError::TooLarge { path: path.to_owned(), bytes });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

fn check_exposure(key: &'static str, address: SocketAddr, insecure: bool) -> Result<(), ConfigError> {
    if insecure || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ConfigError::Exposed { key, address })
    }
}

fn policy(file: &file::Policy) -> Policy {
    let defaults = Policy::default();
    Policy {
        max_entries: file.max_entries.map_or(defaults.max_entries, |count| count.0),
        max_token_lifetime: file.max_token_lifetime.map_or(defaults.max_token_lifetime, |span| span.0),
        max_session_lifetime: file.max_session_lifetime.map_or(defaults.max_session_lifetime, |span| span.0),
        expiry_leeway: file.expiry_leeway.map_or(defaults.expiry_leeway, |span| span.0),
        expiry_grace: file.expiry_grace.map_or(defaults.expiry_grace, |span| span.0),
        max_staleness: file.max_staleness.map_or(defaults.max_staleness, |span| span.0),
        clock_skew_max: file.clock_skew_max.map_or(defaults.clock_skew_max, |span| span.0),
        issuer_clock_skew: file.issuer_clock_skew.map_or(defaults.issuer_clock_skew, |span| span.0),
        when_stale: file.when_stale.map_or(defaults.when_stale, |choice| match choice {
            file::WhenStale::ServeStale => WhenStale::ServeStale,
            file::WhenStale::Deny => WhenStale::Deny,
        }),
        lifetime_policy: file.lifetime_policy.map_or(defaults.lifetime_policy, |choice| match choice {
            file::LifetimePolicy::Warn => LifetimePolicy::Warn,
            file::LifetimePolicy::Enforce => LifetimePolicy::Enforce,
        }),
        losses_accepted: defaults.losses_accepted,
    }
}

impl From<file::LogFormat> for LogFormat {
    fn from(format: file::LogFormat) -> Self {
        match format {
            file::LogFormat::Text => Self::Text,
            file::LogFormat::Json => Self::Json,
        }
    }
}
