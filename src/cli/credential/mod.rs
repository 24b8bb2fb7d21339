//! `rescind credential`: what proves to a server who one is.

mod mint;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Credential {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a credential for a principals file. Asks no server.
    Mint(mint::Mint),
}

impl Credential {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Mint(command) => command.run(),
        }
    }
}
