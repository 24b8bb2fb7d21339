//! `rescind credential`: what proves to a server who one is, kept in its journal or in a principals file.

mod create;
mod list;
mod mint;
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
    /// Make a credential for a principals file. Asks no server.
    Mint(mint::Mint),
    /// Revoke credentials: from the answer on they are refused.
    Revoke(revoke::Revoke),
}

impl Credential {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Create(command) => command.run().await,
            Command::List(command) => command.run().await,
            Command::Mint(command) => command.run(),
            Command::Revoke(command) => command.run().await,
        }
    }
}
