//! The configuration file: TOML, with unknown keys refused. Ranges are part of the types, so that every error names the
//! line, the key and what was expected.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use http::StatusCode;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::agent::AgentName;
use super::duration::Span;
use crate::replica::{PublicKey, ServerUrl};
use crate::revocation::verification::CLASS_NAME_BYTES_MAX;
use crate::security::access::REQUESTS_PER_SECOND;
use crate::surface::oauth::{self, PublicUrl};
use crate::surface::{self, Address};
use crate::{revocation, telemetry};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// How far ahead a token's `exp` counts.
const LIFETIME_MAX: u64 = 400 * DAY;

/// The staleness that a checker accepts.
pub(super) type MaxStaleness = Span<5, { 30 * DAY }>;

/// Everything a file can say. What it leaves out has its default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) issuers: Vec<Issuer>,
    pub(super) server: Server,
    pub(super) agent: Agent,
    pub(super) tls: Tls,
    pub(super) authentication: Authentication,
    pub(super) upstream: Upstream,
    pub(super) verification: Verification,
    pub(super) oauth: OAuth,
    pub(super) policy: Policy,
    pub(super) journal: Journal,
    pub(super) limits: Limits,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Server {
    pub(super) listen: Option<Parsed<Address>>,
    pub(super) ops_listen: Option<SocketAddr>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) insecure: bool,
    pub(super) hosts: Vec<Host>,
    pub(super) unknown_status: Option<Whole<200, 599>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Agent {
    pub(super) upstreams: Vec<Parsed<ServerUrl>>,
    pub(super) listen: Option<Parsed<Address>>,
    pub(super) ops_listen: Option<SocketAddr>,
    pub(super) cache_dir: Option<Place>,
    pub(super) name: Option<Parsed<AgentName>>,
    pub(super) public_key: Option<Parsed<PublicKey>>,
    pub(super) max_staleness: Option<MaxStaleness>,
    pub(super) when_stale: Option<WhenStale>,
    pub(super) lifetime_policy: Option<LifetimePolicy>,
    pub(super) max_entries: Option<EntriesMax>,
}

/// Of a server as of an agent.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tls {
    pub(super) certificate: Option<Place>,
    pub(super) private_key: Option<Place>,
    pub(super) client_ca: Option<Place>,
    pub(super) client_crl: Option<Place>,
    pub(super) require_client_certificate: bool,
    pub(super) ops: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Authentication {
    pub(super) principals: Option<Place>,
    pub(super) denied_file: Option<Place>,
    pub(super) requests_per_second: Option<Whole<1, 1_000_000>>,
}

/// What an agent shows to those it follows.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Upstream {
    pub(super) ca: Option<Place>,
    pub(super) certificate: Option<Place>,
    pub(super) private_key: Option<Place>,
    pub(super) credential_file: Option<Place>,
}

/// Of the OAuth endpoints.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OAuth {
    pub(super) public_url: Option<Parsed<PublicUrl>>,
    pub(super) class: Option<ClassName>,
}

/// How issuers are reached for their keys. What is verified, the policy that is applied says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Verification {
    pub(super) issuer_ca: Option<Place>,
}

/// Live entries, of the authority or in an agent's memory.
pub(super) type EntriesMax = Whole<1, 1_000_000_000>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    pub(super) max_entries: Option<EntriesMax>,
    pub(super) max_token_lifetime: Option<Span<MINUTE, LIFETIME_MAX>>,
    pub(super) max_session_lifetime: Option<Span<MINUTE, LIFETIME_MAX>>,
    pub(super) expiry_leeway: Option<Span<0, DAY>>,
    pub(super) expiry_grace: Option<Span<MINUTE, { 7 * DAY }>>,
    pub(super) max_staleness: Option<MaxStaleness>,
    pub(super) clock_skew_max: Option<Span<1, HOUR>>,
    pub(super) issuer_clock_skew: Option<Span<0, HOUR>>,
    pub(super) when_stale: Option<WhenStale>,
    pub(super) lifetime_policy: Option<LifetimePolicy>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WhenStale {
    ServeStale,
    Deny,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LifetimePolicy {
    Warn,
    Enforce,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Journal {
    pub(super) audit_retention: Option<Span<0, { 3650 * DAY }>>,
    pub(super) snapshot_bytes_min: Option<Whole<{ 4 << 10 }, { 32 << 20 }>>,
}

/// Connections at once, of whatever kind.
type ConnectionsMax = Whole<1, 1_000_000>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: Option<ConnectionsMax>,
    pub(super) connections_unproven: Option<ConnectionsMax>,
    pub(super) connections_per_address: Option<ConnectionsMax>,
    pub(super) connections_per_principal: Option<ConnectionsMax>,
    pub(super) requests: Option<Whole<1, 1_000_000>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: Option<LogFormat>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole<const MIN: u64, const MAX: u64>(pub(super) u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        match u64::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(D::Error::custom(format_args!("expected a number from {MIN} to {MAX}, {number} given"))),
        }
    }
}

/// A text that is parsed as on the command line.
#[derive(Clone, Debug)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A directory or a file.
#[derive(Clone, Debug)]
pub(super) struct Place(pub(super) PathBuf);

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "a path that is not empty", |text| !text.is_empty()).map(|text| Self(text.into()))
    }
}

/// An issuer's identifier, as tokens state it in `iss`.
#[derive(Clone, Debug)]
pub(super) struct Issuer(pub(super) String);

impl<'de> Deserialize<'de> for Issuer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, "an issuer: 1 to 1024 bytes", |text| (1..=1024).contains(&text.len())).map(Self)
    }
}

/// A class of routes, as the verification policy calls it.
#[derive(Clone, Debug)]
pub(super) struct ClassName(pub(super) String);

impl<'de> Deserialize<'de> for ClassName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_name = |text: &str| {
            (1..=CLASS_NAME_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let expected = format_args!("a class: 1 to {CLASS_NAME_BYTES_MAX} ASCII letters, digits, '-', '_' and '.'");
        text(deserializer, expected, is_name).map(Self)
    }
}

/// A host name, without a port.
#[derive(Clone, Debug)]
pub(super) struct Host(pub(super) String);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_')
        };
        text(deserializer, "a host name without scheme and port", is_name).map(Self)
    }
}

fn text<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: impl fmt::Display,
    accept: impl Fn(&str) -> bool,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if accept(&text) { Ok(text) } else { Err(D::Error::custom(format_args!("expected {expected}"))) }
}

impl File {
    /// How requests are taken and answered, of a server as of an agent.
    pub(super) fn surface(&self) -> surface::Options {
        let defaults = surface::Options::default();
        let unknown_status = self.server.unknown_status.and_then(|code| StatusCode::from_u16(code.0 as u16).ok());
        surface::Options {
            issuers: self.issuers.iter().map(|issuer| issuer.0.clone()).collect(),
            hosts: self.server.hosts.iter().map(|host| host.0.clone()).collect(),
            unknown_status: unknown_status.unwrap_or(defaults.unknown_status),
            oauth: oauth::Options {
                public_url: self.oauth.public_url.clone().map(|url| url.0),
                class: self.oauth.class.clone().map(|class| class.0),
                by_certificate: self.tls.client_ca.is_some(),
            },
            bounds: self.limits.bounds(defaults.bounds),
            ..defaults
        }
    }
}

impl Limits {
    /// What is left out follows from how many connections there may be.
    fn bounds(&self, defaults: surface::Bounds) -> surface::Bounds {
        let total = self.connections.map_or(defaults.connections.total, |count| count.0 as usize);
        let derived = surface::Limits::of(total);
        let given = |count: Option<ConnectionsMax>, derived: usize| count.map_or(derived, |count| count.0 as usize);
        surface::Bounds {
            connections: surface::Limits {
                unproven: given(self.connections_unproven, derived.unproven),
                per_address: given(self.connections_per_address, derived.per_address),
                per_principal: given(self.connections_per_principal, derived.per_principal),
                ..derived
            },
            requests_max: self.requests.map_or(defaults.requests_max, |count| count.0 as usize),
            ..defaults
        }
    }
}

impl Authentication {
    /// The most requests of one principal in a second.
    pub(super) fn requests_per_second(&self) -> u32 {
        self.requests_per_second.map_or(REQUESTS_PER_SECOND, |count| count.0 as u32)
    }
}

impl FromStr for File {
    type Err = toml::de::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        toml::from_str(text)
    }
}

impl From<LogFormat> for telemetry::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

impl From<LifetimePolicy> for revocation::LifetimePolicy {
    fn from(choice: LifetimePolicy) -> Self {
        match choice {
            LifetimePolicy::Warn => Self::Warn,
            LifetimePolicy::Enforce => Self::Enforce,
        }
    }
}

impl From<WhenStale> for revocation::WhenStale {
    fn from(choice: WhenStale) -> Self {
        match choice {
            WhenStale::ServeStale => Self::ServeStale,
            WhenStale::Deny => Self::Deny,
        }
    }
}
