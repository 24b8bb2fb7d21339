//! `rescind credential`: API credentials, which a server keeps in its journal.

mod create;
mod list;
mod revoke;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Credential {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a credential, and print or write its secret this once.
    Create(create::Create),
    /// List those that were not revoked. Secrets are not kept, and so not shown.
    List(list::List),
    /// Revoke credentials: from the answer on they are refused.
    Revoke(revoke::Revoke),
}

impl Credential {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Create(command) => command.run().await,
            Command::List(command) => command.run().await,
            Command::Revoke(command) => command.run().await,
        }
    }
}
