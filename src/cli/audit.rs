//! `rescind audit`: what was denied.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{say, say_fields};
use crate::security::audit::{VerifyError, verify};
use crate::security::on_one_line;

#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that no line of a file of denied requests, or of the .1 before it, was changed, taken out or put in.
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Verify {
    /// The file, as authentication.denied_file says: denied.ndjson in the data directory.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let Command::Verify(Verify { file, json }) = self.command;
        let verified = verify(&file).map_err(|error| match error {
            VerifyError::Unreadable { .. } => Failure::cannot(on_one_line(&error)),
            VerifyError::Changed { .. } | VerifyError::Gap { .. } => {
                Failure { exit: Exit::Negative, message: error.to_string() }
            }
        })?;
        if json {
            say(json!({
                "lines": verified.lines,
                "whole": verified.is_whole,
                "torn": verified.is_torn,
                "last_hash": verified.last_hash,
            }));
            return Ok(Exit::Done);
        }
        say("every line follows the one before it");
        let begin = if verified.is_whole { "the first ever written" } else { "later: lines before were rotated away" };
        say_fields(&[
            ("lines", verified.lines.to_string()),
            ("begins with", begin.to_owned()),
            ("last hash", verified.last_hash),
        ]);
        if verified.is_torn {
            say("the last line is not whole: it is being written, or its writer was killed");
        }
        Ok(Exit::Done)
    }
}
