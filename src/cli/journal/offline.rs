//! `rescind journal restore` and `rescind journal verify`: on files, without a server.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

use crate::authority::backup;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{say, say_fields};
use crate::clock::Clock;
use crate::journal::{EmbeddedJournal, Journal as _, Options};
use crate::revocation::{Position, Revision};

#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    /// The backup, or the data directory of a server that is stopped.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// The new data directory: empty, or not there yet.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

impl Restore {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let restored = backup::restore(&self.from, &self.data_dir).map_err(|error| failure(&error))?;
        let parent = Position { epoch: restored.parent.epoch.id, revision: restored.parent.last };
        say(format_args!("restored to {}", self.data_dir.display()));
        say_fields(&[
            ("position", restored.position().to_string()),
            ("generation", restored.epoch.generation.to_string()),
            ("restored from", parent.to_string()),
            ("snapshot", restored.snapshot.map_or_else(|| "none".to_owned(), |revision| revision.to_string())),
        ]);
        Ok(Exit::Done)
    }
}

impl Verify {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let dir = &self.data_dir;
        // Opening would make a new one.
        if !dir.join("journal.sqlite").is_file() {
            return Err(Failure::cannot(format!("{} holds no journal", dir.display())));
        }
        if dir.join(backup::MANIFEST).is_file() {
            let what = "is a backup; restoring it verifies it, and opening it would change it";
            return Err(Failure::cannot(format!("{} {what}", dir.display())));
        }
        let options = Options { clock: Clock::system(), verify_after: Revision(0) };
        let journal = EmbeddedJournal::open(dir, &options).map_err(|error| failure(&error))?.journal;
        journal.verify_all().map_err(|error| failure(&error))?;
        let oldest = journal.reader().and_then(|reader| reader.oldest()).map_err(|error| failure(&error))?;
        let (epoch, head) = (journal.identity().epoch, journal.head());
        say("every record is sound");
        say_fields(&[
            ("position", Position { epoch: epoch.id, revision: head }.to_string()),
            ("generation", epoch.generation.to_string()),
            ("revisions", format!("{oldest} to {head}")),
        ]);
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
    use std::path::Path;

    use super::*;

    fn verify(dir: &Path) -> Result<Exit, Failure> {
        Verify { data_dir: dir.to_owned() }.run()
    }

    #[test]
    fn a_sound_journal_verifies_and_a_damaged_one_ends_with_two_and_its_revision() {
        let dir = tempfile::tempdir().unwrap();
        assert!(verify(dir.path()).unwrap_err().message.ends_with("holds no journal"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created");
        let options = crate::authority::Options::new(dir.path().to_owned(), Clock::system());
        drop(crate::authority::recover(options).unwrap());
        assert_eq!(verify(dir.path()), Ok(Exit::Done));
        let connection = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
        connection.execute_batch("UPDATE records SET bytes = zeroblob(50)").unwrap();
        drop(connection);
        let failure = verify(dir.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::CannotTell);
        assert!(failure.message.contains("corrupt at revision 1"), "{}", failure.message);
    }

    #[test]
    fn a_damaged_backup_ends_with_two_and_says_where() {
        let from = tempfile::tempdir().unwrap();
        std::fs::write(from.path().join("journal.sqlite"), "no database").unwrap();
        std::fs::write(from.path().join("lock"), "").unwrap();
        let data_dir = tempfile::tempdir().unwrap().path().join("new");
        let failure = Restore { from: from.path().to_owned(), data_dir }.run().unwrap_err();
        assert_eq!(failure.exit, Exit::CannotTell);
        assert!(failure.message.contains("is not a Rescind journal"), "{}", failure.message);
    }
}
