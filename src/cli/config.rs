//! `rescind config check`.

use clap::{Args, Subcommand};

use super::configuration::{AgentFlags, Process, ServerFlags};
use super::exit::{Exit, Failure};
use super::output::{say, say_fields};
use crate::config::{AgentConfig, ServerConfig, render_duration};
use crate::surface;

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what `serve` or `agent` would run with, and show it. Opens and binds nothing.
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
            agent_fields(&check.process.agent(check.agent_flags)?)
        } else {
            fields(&check.process.server(check.server)?)
        };
        say("the configuration is fine");
        say_fields(&fields);
        Ok(Exit::Done)
    }
}

fn agent_fields(config: &AgentConfig) -> Vec<(&'static str, String)> {
    let AgentConfig {
        upstreams,
        listen,
        ops_listen,
        cache_dir,
        name,
        public_key,
        max_staleness,
        when_stale,
        lifetime_policy,
        override_policy,
        max_entries,
        surface: surface::Options { issuers, hosts, unknown_status, connections_max, insecure, tls: _, data_dir: _ },
        log,
    } = config;
    let upstreams: Vec<String> = upstreams.iter().map(ToString::to_string).collect();
    let as_logged = |local: Option<String>| local.unwrap_or_else(|| "as the authority's policy says".to_owned());
    vec![
        ("issuers", format!("{issuers:?}")),
        ("agent.upstreams", upstreams.join(",")),
        ("agent.listen", listen.to_string()),
        ("agent.ops_listen", ops_listen.to_string()),
        ("agent.cache_dir", cache_dir.as_ref().map_or("none".to_owned(), |dir| dir.display().to_string())),
        ("agent.name", name.as_str().to_owned()),
        ("agent.public_key", public_key.map_or("the first that proves itself".to_owned(), |key| key.to_string())),
        ("agent.max_staleness", as_logged(max_staleness.map(render_duration))),
        ("agent.when_stale", as_logged(when_stale.map(|choice| format!("{choice:?}")))),
        ("agent.lifetime_policy", as_logged(lifetime_policy.map(|choice| format!("{choice:?}")))),
        ("agent.max_entries", max_entries.to_string()),
        ("--override-policy", if *override_policy { "ServeStale" } else { "off" }.to_owned()),
        ("--insecure", insecure.to_string()),
        ("server.hosts", format!("{hosts:?}")),
        ("server.unknown_status", unknown_status.as_u16().to_string()),
        ("limits.connections", connections_max.to_string()),
        ("log.format", format!("{log:?}")),
    ]
}

fn fields(config: &ServerConfig) -> Vec<(&'static str, String)> {
    let ServerConfig { listen, ops_listen, data_dir, policy, audit_retention, surface, log } = config;
    vec![
        ("issuers", format!("{:?}", surface.issuers)),
        ("server.listen", listen.to_string()),
        ("server.ops_listen", ops_listen.to_string()),
        ("server.data_dir", data_dir.display().to_string()),
        ("server.insecure", surface.insecure.to_string()),
        ("server.hosts", format!("{:?}", surface.hosts)),
        ("server.unknown_status", surface.unknown_status.as_u16().to_string()),
        ("policy.max_entries", policy.max_entries.to_string()),
        ("policy.max_token_lifetime", render_duration(policy.max_token_lifetime)),
        ("policy.max_session_lifetime", render_duration(policy.max_session_lifetime)),
        ("policy.expiry_leeway", render_duration(policy.expiry_leeway)),
        ("policy.expiry_grace", render_duration(policy.expiry_grace)),
        ("policy.max_staleness", render_duration(policy.max_staleness)),
        ("policy.when_stale", format!("{:?}", policy.when_stale)),
        ("policy.clock_skew_max", render_duration(policy.clock_skew_max)),
        ("policy.issuer_clock_skew", render_duration(policy.issuer_clock_skew)),
        ("policy.lifetime_policy", format!("{:?}", policy.lifetime_policy)),
        ("journal.audit_retention", render_duration(*audit_retention)),
        ("limits.connections", surface.connections_max.to_string()),
        ("log.format", format!("{log:?}")),
    ]
}
