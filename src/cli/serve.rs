//! `rescind serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::exit::{Exit, Failure};
use crate::app;
use crate::config::{Overrides, ServerConfig, StatePlaces};
use crate::surface::Address;
use crate::telemetry::{LogFormat, start_log};

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    configuration: Configuration,
}

/// The flags that say how a server runs.
#[derive(Clone, Debug, Args)]
pub(super) struct Configuration {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "RESCIND_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    /// Where callers connect: a TCP port, or the path of a Unix socket [default: 127.0.0.1:7009].
    #[arg(long, value_name = "IP:PORT|unix:/PATH", env = "RESCIND_LISTEN", hide_env_values = true)]
    listen: Option<Address>,
    /// Where metrics and health are [default: 127.0.0.1:7010].
    #[arg(long, value_name = "IP:PORT", env = "RESCIND_OPS_LISTEN", hide_env_values = true)]
    ops_listen: Option<SocketAddr>,
    /// Where data is kept [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/rescind].
    #[arg(long, value_name = "DIR", env = "RESCIND_DATA_DIR", hide_env_values = true)]
    data_dir: Option<PathBuf>,
    /// Listen beyond loopback although nobody is authenticated.
    #[arg(long)]
    insecure: bool,
    /// The form of the log.
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl Configuration {
    /// The checked configuration.
    pub(super) fn load(self) -> Result<ServerConfig, Failure> {
        let overrides = Overrides {
            config: self.config,
            listen: self.listen,
            ops_listen: self.ops_listen,
            data_dir: self.data_dir,
            insecure: self.insecure,
            log: self.log_format.map(|format| match format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            }),
        };
        ServerConfig::load(&overrides, &StatePlaces::from_env()).map_err(|error| Failure::cannot(chain(&error)))
    }
}

impl Serve {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let config = self.configuration.load()?;
        start_log(config.log).map_err(|error| Failure::cannot(chain(&error)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::cannot(format!("cannot start: {error}")))?;
        runtime.block_on(app::serve(config)).map_err(|error| Failure::cannot(chain(&error)))?;
        Ok(Exit::Done)
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
