//! Reaching a server.

use std::time::Duration;

use clap::Args;
use tonic::transport::Channel;

use super::exit::Failure;
use crate::replica::{SERVERS_MAX, ServerUrl};
use crate::wire::upstream::endpoint;

/// How long one server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take: a full batch on a slow disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes: a page of 1,000 revocations with the longest selectors.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Which servers to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct Servers {
    /// The servers to ask, in order: the next one if a connection fails. A server on this machine may be the path of its
    /// Unix socket, as in unix:/run/rescind.sock.
    #[arg(
        long,
        value_name = "URL[,URL…]",
        env = "RESCIND_SERVER",
        default_value = "http://127.0.0.1:7009",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(super) server: Vec<ServerUrl>,
}

impl Servers {
    /// A connection to the first server that can be reached.
    pub(super) async fn connect(&self) -> Result<Channel, Failure> {
        self.connect_for(Duration::ZERO).await
    }

    /// The same, for answers that take so much longer because they wait for something.
    pub(super) async fn connect_for(&self, waiting: Duration) -> Result<Channel, Failure> {
        let mut failures = Vec::new();
        for url in self.server.iter().take(SERVERS_MAX) {
            let endpoint = endpoint(url).connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT + waiting);
            match endpoint.connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) => failures.push(format!("{url}: {}", innermost(&error))),
            }
        }
        Err(Failure::unreachable(format!("no server can be reached ({})", failures.join("; "))))
    }
}

/// What the system said, without the layers around it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
