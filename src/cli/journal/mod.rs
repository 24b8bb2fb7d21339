//! `rescind journal`: what an operator does to the journal itself.

mod export;
mod lines;
mod offline;
mod online;
mod verify;

use clap::{Args, Subcommand};

use super::block_on;
use super::exit::{Exit, Failure};

#[derive(Debug, Args)]
pub(super) struct Journal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy what a running server holds to a directory, to restore from.
    Backup(online::Backup),
    /// Make a data directory out of a backup. No server may run in either.
    Restore(offline::Restore),
    /// Give up what was revoked before a backup was restored, and is not in it. There is no way back.
    AcceptLoss(online::AcceptLoss),
    /// Check every record of a journal, and compare it with an audit head that was noted earlier. Changes nothing.
    Verify(verify::Verify),
    /// Print the journal as lines of JSON: who did what, from where, when and why.
    Export(export::Export),
}

impl Journal {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        block_on(self.perform())
    }

    pub(super) async fn perform(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Backup(command) => command.run().await,
            Command::AcceptLoss(command) => command.run().await,
            Command::Restore(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Export(command) => command.run().await,
        }
    }
}
