//! What an agent is configured with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::duration::SpanError;
use super::file::{File, MaxStaleness};
use super::tls::{TlsConfig, UpstreamConfig, UpstreamOverrides};
use super::{ConfigError, Guards, check_addresses, check_confidential, parse, read};
use crate::replica::{ENTRIES_MAX, NAME_BYTES_MAX, PolicyInForce, PublicKey, SERVERS_MAX, ServerUrl};
use crate::revocation::{LifetimePolicy, WhenStale};
use crate::surface::{self, Address};
use crate::telemetry::LogFormat;

#[cfg(test)]
mod tests;

/// Where callers connect to an agent, unless told otherwise.
const AGENT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7019);
/// Where an agent's metrics and health are, unless told otherwise.
const AGENT_OPS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7020);
/// Where the system says what the host is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Everything an agent needs to know, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// The servers to follow, tried in turn: 1 to [`SERVERS_MAX`].
    pub upstreams: Vec<ServerUrl>,
    /// What it trusts and shows there.
    pub upstream: UpstreamConfig,
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
    /// Where the set is kept for the next start; nowhere, if `None`.
    pub cache_dir: Option<PathBuf>,
    /// How people recognise it among the subscribers: the name of the host, unless told otherwise.
    pub name: AgentName,
    /// The authority's key. Without it the first one that proves itself is kept.
    pub public_key: Option<PublicKey>,
    /// The staleness accepted here. Counts where it is stricter than the authority's.
    pub max_staleness: Option<Duration>,
    /// What happens beyond it. Counts where it is stricter than the authority's.
    pub when_stale: Option<WhenStale>,
    /// What a miss means for a token that outlives revocations. Counts where it is stricter than the authority's.
    pub lifetime_policy: Option<LifetimePolicy>,
    /// Whether it serves stale whatever its own and the authority's policy say: to break the glass.
    pub override_policy: bool,
    /// The most entries this process may hold; a larger set is refused as a whole.
    pub max_entries: u64,
    /// How requests are taken and answered.
    pub surface: surface::Options,
    /// The form of the log.
    pub log: LogFormat,
}

/// What flags and their environment twins say; `None`, empty and `false` when they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentOverrides {
    /// `--config`, `RESCIND_CONFIG`.
    pub config: Option<PathBuf>,
    /// `--upstream`, `RESCIND_UPSTREAM`.
    pub upstreams: Vec<ServerUrl>,
    /// `--upstream-ca-file`, `--upstream-certificate-file`, `--upstream-key-file`, `--upstream-credential-file`, and their
    /// variables.
    pub upstream: UpstreamOverrides,
    /// `--listen`, `RESCIND_LISTEN`.
    pub listen: Option<Address>,
    /// `--ops-listen`, `RESCIND_OPS_LISTEN`.
    pub ops_listen: Option<SocketAddr>,
    /// `--cache-dir`, `RESCIND_CACHE_DIR`.
    pub cache_dir: Option<PathBuf>,
    /// `--name`, `RESCIND_NAME`.
    pub name: Option<AgentName>,
    /// `--public-key`, `RESCIND_PUBLIC_KEY`.
    pub public_key: Option<PublicKey>,
    /// `--max-staleness`.
    pub max_staleness: Option<Duration>,
    /// `--when-stale`.
    pub when_stale: Option<WhenStale>,
    /// `--lifetime-policy`.
    pub lifetime_policy: Option<LifetimePolicy>,
    /// `--override-policy serve_stale`. No file and no variable can say it: it is for an emergency.
    pub override_policy: bool,
    /// `--insecure`. A file cannot say it for an agent.
    pub insecure: bool,
    /// `--log-format`.
    pub log: Option<LogFormat>,
}

/// A name by which people recognise an agent: 1 to 128 bytes on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentName(String);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {NAME_BYTES_MAX} bytes and no control characters, {bytes} bytes given")]
pub struct AgentNameError {
    /// Its length in bytes.
    pub bytes: usize,
}

/// A local `max_staleness`, in the range of the authority's.
///
/// # Errors
/// When it is no duration, or shorter than 5 s, or longer than 30 d.
pub fn parse_max_staleness(text: &str) -> Result<Duration, SpanError> {
    text.parse::<MaxStaleness>().map(|span| span.0)
}

impl AgentConfig {
    /// The configuration that flags, environment and file make together.
    ///
    /// # Errors
    /// When the file cannot be read or understood, or when what it and the flags say cannot be.
    pub fn load(overrides: &AgentOverrides) -> Result<Self, ConfigError> {
        Self::resolve(read(overrides.config.as_deref())?, overrides)
    }

    /// The same with the file's text already read.
    ///
    /// # Errors
    /// As [`AgentConfig::load`].
    pub fn from_toml(text: &str, path: &Path, overrides: &AgentOverrides) -> Result<Self, ConfigError> {
        Self::resolve(parse(text, path)?, overrides)
    }

    /// What is added to the logged policy; nothing, if nothing is said.
    #[must_use]
    pub fn local_policy(&self) -> Option<PolicyInForce> {
        if self.max_staleness.is_none() && self.when_stale.is_none() {
            return None;
        }
        let loosest = PolicyInForce::LOOSEST;
        Some(PolicyInForce {
            max_staleness: self.max_staleness.unwrap_or(loosest.max_staleness),
            when_stale: self.when_stale.unwrap_or(loosest.when_stale),
        })
    }

    fn resolve(file: File, overrides: &AgentOverrides) -> Result<Self, ConfigError> {
        let shared = file.surface();
        let tls = TlsConfig::of(&file)?;
        let upstream = UpstreamConfig::of(&file, &overrides.upstream)?;
        let requests_per_second = file.authentication.requests_per_second();
        let issuer_ca = file.verification.issuer_ca.as_ref().map(|place| place.0.clone());
        let principals = file.authentication.principals.map(|place| place.0);
        let denied_file = file.authentication.denied_file.map(|place| place.0);
        let agent = file.agent;
        let upstreams = match overrides.upstreams.as_slice() {
            [] => agent.upstreams.into_iter().map(|url| url.0).collect(),
            given => given.to_vec(),
        };
        if upstreams.is_empty() || upstreams.len() > SERVERS_MAX {
            return Err(ConfigError::Upstreams { given: upstreams.len() });
        }
        if let Some(repeated) = repeated(&upstreams) {
            return Err(ConfigError::UpstreamRepeated(repeated.clone()));
        }
        let listen = overrides.listen.clone().or(agent.listen.map(|listen| listen.0)).unwrap_or(AGENT_LISTEN.into());
        let ops_listen = overrides.ops_listen.or(agent.ops_listen).unwrap_or(AGENT_OPS_LISTEN);
        let guards =
            Guards { tls: tls.as_ref(), is_authenticating: principals.is_some(), insecure: overrides.insecure };
        check_addresses(&listen, ops_listen, &guards)?;
        check_confidential(&upstreams, &upstream)?;
        let cache_dir = overrides.cache_dir.clone().or(agent.cache_dir.map(|dir| dir.0));
        let data_dir = cache_dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default();
        Ok(Self {
            upstreams,
            upstream,
            listen,
            ops_listen,
            tls,
            principals,
            denied_file,
            requests_per_second,
            issuer_ca,
            cache_dir,
            name: overrides.name.clone().or(agent.name.map(|name| name.0)).unwrap_or_else(AgentName::of_host),
            public_key: overrides.public_key.or(agent.public_key.map(|key| key.0)),
            max_staleness: overrides.max_staleness.or(agent.max_staleness.map(|span| span.0)),
            when_stale: overrides.when_stale.or(agent.when_stale.map(Into::into)),
            lifetime_policy: overrides.lifetime_policy.or(agent.lifetime_policy.map(Into::into)),
            override_policy: overrides.override_policy,
            max_entries: agent.max_entries.map_or(ENTRIES_MAX, |count| count.0),
            surface: surface::Options { insecure: overrides.insecure, data_dir, ..shared },
            log: overrides.log.or(file.log.format.map(Into::into)).unwrap_or_default(),
        })
    }
}

/// The first that is there twice: one that is down would seem to be another one that is up.
fn repeated(upstreams: &[ServerUrl]) -> Option<&ServerUrl> {
    let earlier = |(index, url): (usize, &ServerUrl)| upstreams[..index].contains(url);
    upstreams.iter().enumerate().find(|(index, url)| earlier((*index, url))).map(|(_, url)| url)
}

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the host is called, or `agent` where that cannot be told.
    fn of_host() -> Self {
        let host = std::fs::read_to_string(HOST_NAME_FILE).unwrap_or_default();
        host.trim().parse().unwrap_or_else(|_| Self("agent".to_owned()))
    }
}

impl FromStr for AgentName {
    type Err = AgentNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control) {
            return Ok(Self(text.to_owned()));
        }
        Err(AgentNameError { bytes: text.len() })
    }
}
