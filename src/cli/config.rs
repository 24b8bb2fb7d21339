//! `rescind config check`.

use std::path::Path;

use clap::{Args, Subcommand};

use super::configuration::{AgentFlags, Process, ServerFlags};
use super::exit::{Exit, Failure};
use super::output::{say, say_fields};
use crate::clock::Clock;
use crate::config::{AgentConfig, ServerConfig, TlsConfig, render_duration};
use crate::revocation::{LifetimePolicy, WhenStale};
use crate::security::on_one_line;
use crate::security::principals::Principals;
use crate::security::tls::ServerTls;
use crate::surface::http::render_time;
use crate::surface::{self, Bounds, oauth};
use crate::telemetry::LogFormat;

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what `serve` or `agent` would run with, and show it. Reads certificates, keys and principals; opens and binds nothing else.
    Check(Box<Check>),
}

#[derive(Debug, Args)]
struct Check {
    /// Check what `agent` would run with, instead of `serve`.
    #[arg(long)]
    agent: bool,
    #[command(flatten)]
    process: Process,
    #[command(flatten, next_help_heading = "Of a server")]
    server: ServerFlags,
    #[command(flatten, next_help_heading = "Of an agent")]
    agent_flags: AgentFlags,
}

impl Config {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Command::Check(check) = self.command;
        let fields = if check.agent {
            let config = check.process.agent(check.agent_flags)?;
            config.upstream.security().check().map_err(|error| Failure::cannot(on_one_line(&error)))?;
            [agent_fields(&config), tls_fields(config.tls.as_ref(), config.principals.as_deref())?].concat()
        } else {
            let config = check.process.server(check.server)?;
            [fields(&config), tls_fields(config.tls.as_ref(), config.principals.as_deref())?].concat()
        };
        say("the configuration is fine");
        say_fields(&fields);
        Ok(Exit::Done)
    }
}

fn agent_fields(config: &AgentConfig) -> Vec<(&'static str, String)> {
    let AgentConfig {
        upstreams,
        upstream,
        listen,
        ops_listen,
        tls: _,
        principals: _,
        denied_file,
        requests_per_second,
        issuer_ca,
        cache_dir,
        name,
        public_key,
        max_staleness,
        when_stale: stale,
        lifetime_policy: lifetimes,
        override_policy,
        max_entries,
        surface: surface::Options { issuers, hosts, unknown_status, bounds, oauth, insecure, tls: _, data_dir: _ },
        log,
    } = config;
    let upstreams: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    let as_logged = |local: Option<String>| local.unwrap_or_else(|| "as the authority's policy says".to_owned());
    let mut fields = vec![
        ("issuers", list(issuers)),
        ("agent.upstreams", upstreams.join(",")),
        ("upstream.ca", file_or(upstream.files.authorities.as_deref(), "those that the system trusts")),
        (
            "upstream.certificate",
            file_or(upstream.files.identity.as_ref().map(|own| own.certificate.as_path()), "none"),
        ),
        ("upstream.credential_file", file_or(upstream.credential_file.as_deref(), "none")),
        ("authentication.denied_file", file_or(denied_file.as_deref(), "none")),
        ("authentication.requests_per_second", requests_per_second.to_string()),
        ("verification.issuer_ca", file_or(issuer_ca.as_deref(), "those that the system trusts")),
        ("agent.listen", listen.to_string()),
        ("agent.ops_listen", ops_listen.to_string()),
        ("agent.cache_dir", cache_dir.as_ref().map_or("none".to_owned(), |dir| dir.display().to_string())),
        ("agent.name", name.as_str().to_owned()),
        ("agent.public_key", public_key.map_or("the first that proves itself".to_owned(), |key| key.to_string())),
        ("agent.max_staleness", as_logged(max_staleness.map(render_duration))),
        ("agent.when_stale", as_logged((*stale).map(|choice| when_stale(choice).to_owned()))),
        ("agent.lifetime_policy", as_logged((*lifetimes).map(|choice| lifetime_policy(choice).to_owned()))),
        ("agent.max_entries", max_entries.to_string()),
        ("--override-policy", if *override_policy { "serve_stale" } else { "off" }.to_owned()),
        ("--insecure", insecure.to_string()),
        ("server.hosts", list(hosts)),
        ("server.unknown_status", unknown_status.as_u16().to_string()),
    ];
    fields.extend(oauth_fields(oauth));
    fields.extend(limits(bounds));
    fields.push(("log.format", log_format(*log).to_owned()));
    fields
}

fn oauth_fields(oauth: &oauth::Options) -> [(&'static str, String); 2] {
    let oauth::Options { public_url, class, by_certificate: _ } = oauth;
    [
        ("oauth.public_url", public_url.as_ref().map_or("none: no metadata".to_owned(), ToString::to_string)),
        ("oauth.class", class.clone().unwrap_or_else(|| "none: what every class asks".to_owned())),
    ]
}

fn limits(bounds: &Bounds) -> [(&'static str, String); 5] {
    let Bounds { connections, requests_max, stop_grace: _ } = bounds;
    [
        ("limits.connections", connections.total.to_string()),
        ("limits.connections_unproven", connections.unproven.to_string()),
        ("limits.connections_per_address", connections.per_address.to_string()),
        ("limits.connections_per_principal", connections.per_principal.to_string()),
        ("limits.requests", requests_max.to_string()),
    ]
}

/// Of a server as of an agent: reads the files, as a start would.
fn tls_fields(tls: Option<&TlsConfig>, principals: Option<&Path>) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut fields = vec![("authentication.principals", file_or(principals, "none: nobody is authenticated"))];
    if let Some(path) = principals {
        let read = Principals::read(path).map_err(|error| Failure::cannot(on_one_line(&error)))?;
        fields.push(("  principals", read.count().to_string()));
    }
    let Some(TlsConfig { files, ops }) = tls else {
        fields.push(("tls.certificate", "none: no TLS".to_owned()));
        return Ok(fields);
    };
    let loaded =
        ServerTls::load(files.clone(), Clock::system()).map_err(|error| Failure::cannot(on_one_line(&error)))?;
    let clients = files.clients.as_ref();
    fields.extend([
        ("tls.certificate", files.certificate.display().to_string()),
        ("  valid until", until(&loaded)),
        ("tls.private_key", files.private_key.display().to_string()),
        ("tls.client_ca", file_or(clients.map(|clients| clients.authorities.as_path()), "none: nobody is asked")),
        ("tls.client_crl", file_or(clients.and_then(|clients| clients.revoked.as_deref()), "none")),
        ("tls.require_client_certificate", clients.is_some_and(|clients| clients.is_required).to_string()),
        ("tls.ops", ops.to_string()),
    ]);
    Ok(fields)
}

fn until(tls: &ServerTls) -> String {
    let end = render_time(tls.not_after().0);
    if tls.remaining_seconds() < 0 { format!("{end}: IT HAS EXPIRED") } else { end }
}

fn file_or(path: Option<&Path>, otherwise: &str) -> String {
    path.map_or_else(|| otherwise.to_owned(), |path| path.display().to_string())
}

/// A list as TOML writes it.
fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| toml::Value::from(item.as_str()).to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn when_stale(choice: WhenStale) -> &'static str {
    match choice {
        WhenStale::ServeStale => "serve_stale",
        WhenStale::Deny => "deny",
    }
}

fn lifetime_policy(choice: LifetimePolicy) -> &'static str {
    match choice {
        LifetimePolicy::Warn => "warn",
        LifetimePolicy::Enforce => "enforce",
    }
}

fn log_format(choice: LogFormat) -> &'static str {
    match choice {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn fields(config: &ServerConfig) -> Vec<(&'static str, String)> {
    let ServerConfig {
        listen,
        ops_listen,
        tls: _,
        principals: _,
        denied_file,
        requests_per_second,
        issuer_ca,
        data_dir,
        policy,
        audit_retention,
        snapshot_bytes_min,
        surface,
        log,
    } = config;
    let mut fields = vec![
        ("issuers", list(&surface.issuers)),
        ("authentication.denied_file", file_or(denied_file.as_deref(), "denied.ndjson in the data directory")),
        ("authentication.requests_per_second", requests_per_second.to_string()),
        ("verification.issuer_ca", file_or(issuer_ca.as_deref(), "those that the system trusts")),
        ("server.listen", listen.to_string()),
        ("server.ops_listen", ops_listen.to_string()),
        ("server.data_dir", data_dir.display().to_string()),
        ("server.insecure", surface.insecure.to_string()),
        ("server.hosts", list(&surface.hosts)),
        ("server.unknown_status", surface.unknown_status.as_u16().to_string()),
        ("policy.max_entries", policy.max_entries.to_string()),
        ("policy.max_token_lifetime", render_duration(policy.max_token_lifetime)),
        ("policy.max_session_lifetime", render_duration(policy.max_session_lifetime)),
        ("policy.expiry_leeway", render_duration(policy.expiry_leeway)),
        ("policy.expiry_grace", render_duration(policy.expiry_grace)),
        ("policy.max_staleness", render_duration(policy.max_staleness)),
        ("policy.when_stale", when_stale(policy.when_stale).to_owned()),
        ("policy.clock_skew_max", render_duration(policy.clock_skew_max)),
        ("policy.issuer_clock_skew", render_duration(policy.issuer_clock_skew)),
        ("policy.lifetime_policy", lifetime_policy(policy.lifetime_policy).to_owned()),
        ("journal.audit_retention", render_duration(*audit_retention)),
        ("journal.snapshot_bytes_min", snapshot_bytes_min.to_string()),
    ];
    fields.extend(oauth_fields(&surface.oauth));
    fields.extend(limits(&surface.bounds));
    fields.push(("log.format", log_format(*log).to_owned()));
    fields
}
