//! `rescind config check`.

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::output::{say, say_fields};
use super::serve::Configuration;
use crate::config::{ServerConfig, render_duration};

#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what `serve` would run with, and show it. Opens and binds nothing.
    Check(Configuration),
}

impl Config {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Command::Check(configuration) = self.command;
        let config = configuration.load()?;
        say("the configuration is fine");
        say_fields(&fields(&config));
        Ok(Exit::Done)
    }
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
