//! `rescind journal verify`: on files, which it does not change.

use std::path::PathBuf;

use clap::Args;

use super::offline::failure;
use crate::authority::audit;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{say, say_fields};
use crate::config::StatePlaces;
use crate::revocation::Position;
use crate::revocation::ports::AuditHead;

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// The data directory, whether or not a server runs there, or a backup. Without it the place where a server keeps its
    /// data if nothing else is said.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The audit head that was noted earlier: fails if a record up to there was changed or cut off since.
    #[arg(long, value_name = "REVISION:HEX")]
    expect: Option<AuditHead>,
}

impl Verify {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let default = || StatePlaces::from_env().data_dir();
        let dir = self.data_dir.or_else(default).ok_or_else(|| Failure::cannot("which journal? pass --data-dir"))?;
        if !dir.join("journal.sqlite").is_file() {
            return Err(Failure::cannot(format!("{} holds no journal", dir.display())));
        }
        let sound = audit::verify(&dir, self.expect).map_err(|error| failure(&error))?;
        let journal = &sound.journal;
        say(match self.expect {
            Some(_) => "every record is sound, and those up to the expected head are as they were",
            None => "every record is sound",
        });
        let snapshots: Vec<String> = sound.snapshots.iter().map(ToString::to_string).collect();
        say_fields(&[
            ("position", Position { epoch: sound.epoch.id, revision: journal.head.revision }.to_string()),
            ("generation", sound.epoch.generation.to_string()),
            ("format", journal.format.to_string()),
            ("revisions", format!("{} to {}", journal.oldest, journal.head.revision)),
            ("carried", journal.carried.to_string()),
            ("snapshots", if snapshots.is_empty() { "none".to_owned() } else { snapshots.join(", ") }),
            ("audit head", journal.head.to_string()),
        ]);
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::Clock;

    fn verify(dir: &Path) -> Result<Exit, Failure> {
        Verify { data_dir: Some(dir.to_owned()), expect: None }.run()
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
}
