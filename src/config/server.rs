//! What a server is configured with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{self, File};
use super::{ConfigError, Guards, TlsConfig, check_addresses, parse, read};
use crate::revocation::Policy;
use crate::surface::{self, Address};
use crate::telemetry::LogFormat;

/// Where callers connect, unless told otherwise. RFC 7009 is the number's origin.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7009);
/// Where metrics and health are, unless told otherwise.
pub const OPS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7010);
/// Everything a server needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where callers connect. Loopback or a Unix socket, unless there are TLS and authentication, or `surface.insecure`.
    pub listen: Address,
    /// Where metrics and health are. Loopback, unless there is TLS on it, or `surface.insecure`.
    pub ops_listen: SocketAddr,
    /// The TLS of the listeners.
    pub tls: Option<TlsConfig>,
    /// Where the principals are; if there is such a file, callers are authenticated.
    pub principals: Option<PathBuf>,
    /// Where denied requests are written, if that is said.
    pub denied_file: Option<PathBuf>,
    /// The most requests of one principal in a second.
    pub requests_per_second: u32,
    /// Those who sign issuers' certificates; `None`: whom the system trusts.
    pub issuer_ca: Option<PathBuf>,
    /// Where the journal, the index and the snapshots are.
    pub data_dir: PathBuf,
    /// The policy to log.
    pub policy: Policy,
    /// How long expired and reinstated revocations stay in the audit trail.
    pub audit_retention: Duration,
    /// The fewest bytes of changes after which a snapshot is cut: 4 KiB to 32 MiB.
    pub snapshot_bytes_min: u64,
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
    pub listen: Option<Address>,
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

impl ServerConfig {
    /// The configuration that flags, environment and file make together.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or when what it and the flags say cannot be.
    pub fn load(overrides: &Overrides, places: &StatePlaces) -> Result<Self, ConfigError> {
        Self::resolve(read(overrides.config.as_deref())?, overrides, places)
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
        Self::resolve(parse(text, path)?, overrides, places)
    }

    fn resolve(file: File, overrides: &Overrides, places: &StatePlaces) -> Result<Self, ConfigError> {
        let insecure = overrides.insecure || file.server.insecure;
        let listen = overrides
            .listen
            .clone()
            .or(file.server.listen.as_ref().map(|listen| listen.0.clone()))
            .unwrap_or(LISTEN.into());
        let ops_listen = overrides.ops_listen.or(file.server.ops_listen).unwrap_or(OPS_LISTEN);
        let tls = TlsConfig::of(&file)?;
        let principals = file.authentication.principals.clone().map(|place| place.0);
        let denied_file = file.authentication.denied_file.clone().map(|place| place.0);
        let requests_per_second = file.authentication.requests_per_second();
        let issuer_ca = file.verification.issuer_ca.clone().map(|place| place.0);
        let guards = Guards { tls: tls.as_ref(), is_authenticating: principals.is_some(), insecure };
        check_addresses(&listen, ops_listen, &guards)?;
        let data_dir = overrides.data_dir.clone().or(file.server.data_dir.clone()).or_else(|| places.data_dir());
        let data_dir = data_dir.filter(|dir| !dir.as_os_str().is_empty()).ok_or(ConfigError::NoDataDir)?;
        let surface = surface::Options { insecure, data_dir: data_dir.display().to_string(), ..file.surface() };
        Ok(Self {
            listen,
            ops_listen,
            tls,
            principals,
            denied_file,
            requests_per_second,
            issuer_ca,
            data_dir,
            policy: policy(&file.policy),
            audit_retention: file.journal.audit_retention.map_or(AUDIT_RETENTION, |span| span.0),
            snapshot_bytes_min: file.journal.snapshot_bytes_min.map_or(SNAPSHOT_BYTES_MIN, |bytes| bytes.0),
            surface,
            log: overrides.log.or(file.log.format.map(Into::into)).unwrap_or_default(),
        })
    }
}

/// How long the audit trail reaches back, unless told otherwise: 90 days.
pub const AUDIT_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// How much changes before a snapshot is cut, unless told otherwise: a start replays no more than that and an eighth of the set.
pub const SNAPSHOT_BYTES_MIN: u64 = 4 << 20;

impl StatePlaces {
    /// What this process's environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { state_directory: path("STATE_DIRECTORY"), xdg_state_home: path("XDG_STATE_HOME"), home: path("HOME") }
    }

    /// Where data lies if nothing else was said.
    #[must_use]
    pub fn data_dir(&self) -> Option<PathBuf> {
        if let Some(list) = &self.state_directory {
            return std::env::split_paths(list).next();
        }
        let state_home = self.xdg_state_home.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")))?;
        Some(state_home.join("rescind"))
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
        when_stale: file.when_stale.map_or(defaults.when_stale, Into::into),
        lifetime_policy: file.lifetime_policy.map_or(defaults.lifetime_policy, Into::into),
        losses_accepted: defaults.losses_accepted,
    }
}
