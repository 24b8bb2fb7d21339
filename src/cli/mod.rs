//! The command line, one file per subcommand.
//!
//! Answers go to standard output, everything else to standard error. What is to be revoked comes from flags, files and
//! standard input only, never from the environment; an empty value is refused, because it is usually a variable that was
//! not set.
//!
//! | exit | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a negative answer (`check`: revoked) |
//! | 2 | cannot tell, or bad input |
//! | 3 | durable, but `--wait` ran out before every subscriber had it |
//! | 4 | unreachable, nothing is known: a retry with the printed request id is safe |
//! | 5 | denied |

mod agent;
mod audit;
mod batch;
mod check;
mod completions;
mod config;
mod configuration;
mod connection;
mod credential;
mod exit;
mod forget;
mod journal;
mod list;
mod output;
mod policy;
mod reinstate;
mod revoke;
mod selection;
mod serve;
mod status;
mod subscribers;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod wait;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{Exit, Failure};

#[derive(Debug, Parser)]
#[command(name = "rescind", version, about = "Takes tokens back before they expire.", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::Serve),
    /// Follow servers and answer checks on this machine.
    Agent(agent::Agent),
    /// Revoke tokens.
    Revoke(Box<revoke::Revoke>),
    /// Take revocations back.
    Reinstate(Box<reinstate::Reinstate>),
    /// Ask whether a token is revoked. Verifies no signature.
    Check(check::Check),
    /// List accepted revocations, newest first.
    List(list::List),
    /// Follow a server and print every change.
    Watch(watch::Watch),
    /// Show how a server is.
    Status(status::Status),
    /// Back up, restore or verify a journal.
    Journal(journal::Journal),
    /// Make, list and revoke API credentials.
    Credential(credential::Credential),
    /// Say whose tokens are accepted, and what routes ask of them: apply, show, go back.
    Policy(policy::Policy),
    /// Give up on a subscriber that went without a goodbye and will not come back.
    Forget(forget::Forget),
    /// Look at what was denied.
    Audit(audit::Audit),
    /// Look at the configuration.
    Config(config::Config),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
}

/// Runs the program with these arguments, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::CannotTell } else { Exit::Done };
            output::explain(&error);
            return exit.into();
        }
    };
    let done = match arguments.command {
        Command::Serve(command) => command.run(),
        Command::Agent(command) => command.run(),
        Command::Revoke(command) => block_on(command.run()),
        Command::Reinstate(command) => block_on(command.run()),
        Command::Check(command) => block_on(command.run()).map_err(Failure::cannot_tell),
        Command::List(command) => block_on(command.run()),
        Command::Watch(command) => block_on(command.run()),
        Command::Status(command) => block_on(command.run()),
        Command::Journal(command) => command.run(),
        Command::Credential(command) => block_on(command.run()),
        Command::Policy(command) => block_on(command.run()),
        Command::Forget(command) => block_on(command.run()),
        Command::Audit(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Completions(command) => command.run(),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            output::complain(&failure.message);
            failure.exit.into()
        }
    }
}

fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::cannot(format!("cannot start: {error}")))?.block_on(work)
}
