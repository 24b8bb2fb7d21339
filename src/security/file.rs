//! Reading small files whole: keys, certificates, credentials, lists of principals.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device: such things may never end, and cannot be read again.
    #[error("{} is no regular file", path.display())]
    NotFile {
        /// Which file.
        path: PathBuf,
    },
    /// It is larger than anything it could be.
    #[error("{} is too large: at most {max} bytes are read", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most bytes that are read.
        max: u64,
    },
}

/// The bytes of a file; they are wiped from memory once dropped.
///
/// # Errors
/// When it cannot be read, is no regular file, or has more than `max` bytes.
pub fn read_file(path: &Path, max: u64) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    // Before it is opened: opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(FileError::NotFile { path: path.to_owned() });
    }
    let too_large = || FileError::TooLarge { path: path.to_owned(), max };
    if metadata.len() > max {
        return Err(too_large());
    }
    // Room for one byte more, so that the buffer is not copied, unwiped, when the file ends.
    let room = usize::try_from(metadata.len()).map_err(|_| too_large())?.saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    File::open(path).map_err(unreadable)?.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Err(too_large());
    }
    Ok(bytes)
}

/// An error and its causes.
#[must_use]
pub fn on_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let message = |max| read_file(&path, max).map(drop).unwrap_err().to_string();
        assert!(message(4).starts_with("cannot read "), "{}", message(4));
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_file(&path, 5).unwrap().as_slice(), b"12345");
        assert_eq!(message(4), format!("{} is too large: at most 4 bytes are read", path.display()));
        let folder = read_file(dir.path(), 5).unwrap_err();
        assert!(matches!(folder, FileError::NotFile { .. }), "{folder}");
        let endless = read_file(Path::new("/dev/zero"), 5).unwrap_err();
        assert!(matches!(endless, FileError::NotFile { .. }), "{endless}");
    }
}
