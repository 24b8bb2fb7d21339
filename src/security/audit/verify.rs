//! Whether the lines of a file follow each other.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use super::file::rotated;
use super::line::{LINE_BYTES_MAX, LineHash, chained};

/// Lines that follow each other without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many.
    pub lines: u64,
    /// They begin with the first line ever written; else lines before them were rotated away.
    pub is_whole: bool,
    /// The last line is not whole: it is being written, or its writer was killed.
    pub is_torn: bool,
    /// The hash of the last line, to be noted down elsewhere: 64 hexadecimal digits, all zero when there is none.
    pub last_hash: String,
}

/// Where they do not.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line was changed, or is none.
    #[error("{}: line {line} is not as it was written", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
    },
    /// Lines were taken out, put in or exchanged before a line.
    #[error("{}: line {line} does not follow the one before it", path.display())]
    Gap {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
    },
}

/// Checks every line of a file and, if it is there, of the `.1` before it.
///
/// # Errors
/// At the first line that was changed or does not follow, and when a file cannot be read.
pub fn verify(path: &Path) -> Result<Verified, VerifyError> {
    let mut chain = Chain::default();
    let before = rotated(path);
    match File::open(&before) {
        Ok(file) => chain.take(&before, file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(VerifyError::Unreadable { path: before, source }),
    }
    let file = File::open(path).map_err(|source| VerifyError::Unreadable { path: path.to_owned(), source })?;
    chain.take(path, file)?;
    Ok(Verified { last_hash: chain.last.unwrap_or_default().to_hex(), ..chain.verified })
}

#[derive(Default)]
struct Chain {
    last: Option<LineHash>,
    verified: Verified,
}

impl Chain {
    fn take(&mut self, path: &Path, file: File) -> Result<(), VerifyError> {
        let mut reader = BufReader::new(file);
        for line in 1.. {
            let mut bytes = Vec::new();
            let read = (&mut reader).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes);
            read.map_err(|source| VerifyError::Unreadable { path: path.to_owned(), source })?;
            match bytes.pop() {
                None => break,
                Some(b'\n') => {}
                Some(_) if bytes.len() >= LINE_BYTES_MAX => {
                    return Err(VerifyError::Changed { path: path.to_owned(), line });
                }
                Some(_) => {
                    self.verified.is_torn = true;
                    break;
                }
            }
            let text = std::str::from_utf8(&bytes).ok();
            let Some((prev, own)) = text.and_then(chained) else {
                return Err(VerifyError::Changed { path: path.to_owned(), line });
            };
            match self.last {
                None => self.verified.is_whole = prev == LineHash::default(),
                Some(last) if last == prev => {}
                Some(_) => return Err(VerifyError::Gap { path: path.to_owned(), line }),
            }
            self.last = Some(own);
            self.verified.lines += 1;
        }
        Ok(())
    }
}
