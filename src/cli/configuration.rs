//! The flags that say how a server or an agent runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::exit::Failure;
use crate::config::{
    AgentConfig, AgentName, AgentOverrides, Overrides, ServerConfig, StatePlaces, UpstreamOverrides,
    parse_max_staleness,
};
use crate::replica::{PublicKey, ServerUrl};
use crate::revocation;
use crate::security::on_one_line;
use crate::surface::Address;
use crate::telemetry;

/// What servers and agents have in common.
#[derive(Clone, Debug, Args)]
pub(super) struct Process {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "RESCIND_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Where callers connect: a TCP port, or the path of a Unix socket [default: 127.0.0.1:7009; of an agent, 7019].
    #[arg(long, value_name = "IP:PORT|unix:/PATH", env = "RESCIND_LISTEN", hide_env_values = true)]
    listen: Option<Address>,
    /// Where metrics and health are [default: 127.0.0.1:7010; of an agent, 7020].
    #[arg(long, value_name = "IP:PORT", env = "RESCIND_OPS_LISTEN", hide_env_values = true)]
    ops_listen: Option<SocketAddr>,
    /// Listen beyond loopback although nobody is authenticated.
    #[arg(long)]
    insecure: bool,
    /// The form of the log.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// What only a server is told.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerFlags {
    /// Where data is kept [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/rescind].
    #[arg(long, value_name = "DIR", env = "RESCIND_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
}

/// What only an agent is told.
#[derive(Clone, Debug, Args)]
pub(super) struct AgentFlags {
    /// The servers to follow, tried in turn, as in https://10.0.0.1:7009 or unix:/run/rescind.sock; at most 16.
    #[arg(long, value_name = "URL[,URL…]", env = "RESCIND_UPSTREAM", value_delimiter = ',', hide_env_values = true)]
    upstream: Vec<ServerUrl>,
    #[command(flatten)]
    upstream_security: UpstreamSecurity,
    /// Where the set is kept, so that the next start need not wait for a server.
    #[arg(long, value_name = "DIR", env = "RESCIND_CACHE_DIR", hide_env_values = true)]
    cache_dir: Option<PathBuf>,
    /// How people recognise this agent among the subscribers [default: the name of the host].
    #[arg(long, value_name = "NAME", env = "RESCIND_NAME", hide_env_values = true)]
    name: Option<AgentName>,
    /// The authority's public key, as `rescind status` shows it; without it the first that proves itself is kept.
    #[arg(long, value_name = "HEX", env = "RESCIND_PUBLIC_KEY", hide_env_values = true)]
    public_key: Option<PublicKey>,
    /// The staleness accepted here, as in 30s; counts where it is stricter than the authority's.
    #[arg(long, value_name = "DURATION", value_parser = parse_max_staleness)]
    max_staleness: Option<Duration>,
    /// What happens beyond it; counts where it is stricter than the authority's.
    #[arg(long, value_name = "CHOICE")]
    when_stale: Option<WhenStale>,
    /// What a miss means for a token that outlives revocations; counts where it is stricter than the authority's.
    #[arg(long, value_name = "CHOICE")]
    lifetime_policy: Option<LifetimePolicy>,
    /// In an emergency: go on with a stale set, whatever this agent's and the authority's policy say.
    #[arg(long, value_name = "CHOICE", conflicts_with = "when_stale")]
    override_policy: Option<Override>,
}

/// What an agent trusts and shows to those it follows.
#[derive(Clone, Debug, Args)]
struct UpstreamSecurity {
    /// The certificates (PEM) of those who may sign an https:// upstream's; without it, those that the system trusts.
    #[arg(long, value_name = "FILE", env = "RESCIND_UPSTREAM_CA_FILE", hide_env_values = true)]
    upstream_ca_file: Option<PathBuf>,
    /// The certificate (PEM) that is shown to upstreams that ask for one.
    #[arg(long, value_name = "FILE", env = "RESCIND_UPSTREAM_CERTIFICATE_FILE", hide_env_values = true)]
    upstream_certificate_file: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE", env = "RESCIND_UPSTREAM_KEY_FILE", hide_env_values = true)]
    upstream_key_file: Option<PathBuf>,
    /// A file that holds the API credential shown to upstreams; nobody else may be able to read it.
    #[arg(long, value_name = "FILE", env = "RESCIND_UPSTREAM_CREDENTIAL_FILE", hide_env_values = true)]
    upstream_credential_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LifetimePolicy {
    /// Answer that it is not revoked; counted, and logged once per issuer.
    Warn,
    /// Answer that nothing is known.
    Enforce,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum WhenStale {
    /// Go on answering from what is held.
    ServeStale,
    /// Answer that nothing is known.
    Deny,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Override {
    /// Go on answering from what is held.
    ServeStale,
}

impl Process {
    /// The checked configuration of a server.
    pub(super) fn server(self, flags: ServerFlags) -> Result<ServerConfig, Failure> {
        let overrides = Overrides {
            config: self.config,
            listen: self.listen,
            ops_listen: self.ops_listen,
            data_dir: flags.data_dir,
            insecure: self.insecure,
            log: self.log_format.map(Into::into),
        };
        ServerConfig::load(&overrides, &StatePlaces::from_env()).map_err(|error| Failure::cannot(on_one_line(&error)))
    }

    /// The checked configuration of an agent.
    pub(super) fn agent(self, flags: AgentFlags) -> Result<AgentConfig, Failure> {
        let overrides = AgentOverrides {
            config: self.config,
            upstreams: flags.upstream,
            upstream: flags.upstream_security.into(),
            listen: self.listen,
            ops_listen: self.ops_listen,
            cache_dir: flags.cache_dir,
            name: flags.name,
            public_key: flags.public_key,
            max_staleness: flags.max_staleness,
            when_stale: flags.when_stale.map(Into::into),
            lifetime_policy: flags.lifetime_policy.map(Into::into),
            override_policy: flags.override_policy.is_some(),
            insecure: self.insecure,
            log: self.log_format.map(Into::into),
        };
        AgentConfig::load(&overrides).map_err(|error| Failure::cannot(on_one_line(&error)))
    }
}

impl From<UpstreamSecurity> for UpstreamOverrides {
    fn from(flags: UpstreamSecurity) -> Self {
        Self {
            ca: flags.upstream_ca_file,
            certificate: flags.upstream_certificate_file,
            private_key: flags.upstream_key_file,
            credential_file: flags.upstream_credential_file,
        }
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

/// Starts the log and a runtime, and runs `node` to its end.
pub(super) fn run<E: std::error::Error>(
    log: telemetry::LogFormat,
    node: impl Future<Output = Result<(), E>>,
) -> Result<(), Failure> {
    telemetry::start_log(log).map_err(|error| Failure::cannot(on_one_line(&error)))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::cannot(format!("cannot start: {error}")))?;
    runtime.block_on(node).map_err(|error| Failure::cannot(on_one_line(&error)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        process: Process,
        #[command(flatten)]
        agent: AgentFlags,
    }

    fn load(arguments: &[&str]) -> Result<AgentConfig, Failure> {
        let Arguments { process, agent } = Arguments::parse_from([&["rescind"], arguments].concat());
        process.agent(agent)
    }

    #[test]
    fn an_agents_flags_become_its_configuration() {
        let key = "0f".repeat(32);
        let config = load(&[
            "--upstream=http://a:1,unix:/run/b",
            "--upstream=http://c:1",
            "--listen=unix:/run/agent.sock",
            "--ops-listen=127.0.0.1:1",
            "--cache-dir=/cache",
            "--name=edge",
            "--public-key",
            &key,
            "--max-staleness=1m",
            "--override-policy=serve_stale",
            "--log-format=json",
        ]);
        let config = config.unwrap();
        let upstreams: Vec<String> = config.upstreams.iter().map(ToString::to_string).collect();
        assert_eq!(upstreams, ["http://a:1", "unix:/run/b", "http://c:1"]);
        assert_eq!(config.listen.to_string(), "unix:/run/agent.sock");
        assert_eq!((config.ops_listen.port(), config.name.as_str()), (1, "edge"));
        assert_eq!(config.surface.data_dir, "/cache");
        assert_eq!(config.public_key, Some(PublicKey([15; 32])));
        assert_eq!((config.max_staleness, config.when_stale), (Some(Duration::from_secs(60)), None));
        assert!(config.override_policy);
        assert_eq!(config.log, telemetry::LogFormat::Json);
    }

    #[test]
    fn an_agent_with_nobody_to_follow_is_refused() {
        let refused = load(&[]).unwrap_err();
        assert!(refused.message.contains("--upstream"), "{}", refused.message);
        let exposed = load(&["--upstream=http://a:1", "--listen=0.0.0.0:1"]).unwrap_err();
        assert!(exposed.message.contains("--insecure"), "{}", exposed.message);
        assert!(load(&["--upstream=http://a:1", "--listen=0.0.0.0:1", "--insecure"]).is_ok());
    }
}
