//! `rescind credential mint`.

use clap::Args;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{note, say};
use crate::security::credential;

#[derive(Debug, Args)]
pub(in crate::cli) struct Mint {
    /// Print both as JSON.
    #[arg(long)]
    json: bool,
}

impl Mint {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let minted = credential::mint().map_err(|error| Failure::cannot(format!("no random numbers: {error}")))?;
        let hashed = minted.hashed().to_string();
        if self.json {
            say(json!({ "id": minted.id.to_string(), "credential": minted.text.as_str(), "hashed": hashed }));
            return Ok(Exit::Done);
        }
        note(
            "The first line is the secret: its owner keeps it in a file that nobody else can read (--credential-file).\n\
              It is shown this once. The second line belongs to the principal in the principals file.",
        );
        say(minted.text.as_str());
        say(format_args!("credential = \"{hashed}\""));
        Ok(Exit::Done)
    }
}
