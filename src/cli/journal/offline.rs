//! `rescind journal restore`: on files, without a server.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::authority::backup;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{note, say, say_fields};
use crate::journal::HeldCredentials;
use crate::revocation::Position;

#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    /// The backup, or the data directory of a server that is stopped.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// The new data directory: empty, or not there yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Revoke all API credentials that the backup holds: those revoked since the backup would be accepted again.
    #[arg(long)]
    drop_credentials: bool,
}

impl Restore {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let held = if self.drop_credentials { HeldCredentials::Drop } else { HeldCredentials::Keep };
        let restored = backup::restore(&self.from, &self.data_dir, held).map_err(|error| failure(&error))?;
        let parent = Position { epoch: restored.parent.epoch.id, revision: restored.parent.last };
        say(format_args!("restored to {}", self.data_dir.display()));
        say_fields(&[
            ("position", restored.position().to_string()),
            ("generation", restored.epoch.generation.to_string()),
            ("restored from", parent.to_string()),
            ("snapshot", restored.snapshot.map_or_else(|| "none".to_owned(), |revision| revision.to_string())),
            ("credentials", restored.credentials.to_string()),
        ]);
        match (restored.credentials, held) {
            (0, _) => {}
            (count, HeldCredentials::Drop) => {
                note(&format!("the first start revokes {count} credentials; make new ones"))
            }
            (_, HeldCredentials::Keep) => note(
                "credentials revoked after the backup are accepted again: review `rescind credential list` after the \
                 start, or restore with --drop-credentials",
            ),
        }
        Ok(Exit::Done)
    }
}

/// An error with its causes, on one line.
pub(super) fn failure(error: &dyn Error) -> Failure {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        message = format!("{message}: {source}");
        cause = source.source();
    }
    Failure::cannot(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_backup_ends_with_two_and_says_where() {
        let from = tempfile::tempdir().unwrap();
        std::fs::write(from.path().join("journal.sqlite"), "no database").unwrap();
        std::fs::write(from.path().join("lock"), "").unwrap();
        let data_dir = tempfile::tempdir().unwrap().path().join("new");
        let failure = Restore { from: from.path().to_owned(), data_dir, drop_credentials: false }.run().unwrap_err();
        assert_eq!(failure.exit, Exit::CannotTell);
        assert!(failure.message.contains("is not a Rescind journal"), "{}", failure.message);
    }
}
