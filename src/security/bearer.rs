//! An API credential as a client holds it: a text that is shown to servers, and the file it comes from.
//!
//! What a server makes of it is not known here.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::file::{FileError, read_file};

/// The longest credential, in bytes: a minted one has 64, and room is left for other kinds.
pub const BEARER_BYTES_MAX: usize = 4096;
/// Permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;

/// A credential; hidden in `Debug`, and wiped from memory once dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Zeroizing<String>);

/// The text is no credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a credential is one word of 1 to {BEARER_BYTES_MAX} printable ASCII characters")]
pub struct BearerError;

/// Where a client's credential is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BearerSource {
    /// Here.
    Text(Bearer),
    /// In a file, which is read again for each connection: white space around it does not count.
    File(PathBuf),
}

/// Why a client has no credential.
#[derive(Debug, thiserror::Error)]
pub enum BearerFileError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others than its owner may read or write it.
    #[error("the credential file {} is open to others (mode {mode:04o}); make it yours alone: chmod 600", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What it holds is no credential.
    #[error("the credential file {} holds no credential", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What a credential is.
        source: BearerError,
    },
}

impl Bearer {
    /// The secret itself, to be sent.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(hidden)")
    }
}

impl FromStr for Bearer {
    type Err = BearerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_one = (1..=BEARER_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_one { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(BearerError) }
    }
}

impl BearerSource {
    /// The credential as it is now. May read a file.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or holds something else.
    pub fn read(&self) -> Result<Bearer, BearerFileError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        // One that is missing is told by reading it.
        let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode()) & 0o7777;
        if mode & OTHERS != 0 {
            return Err(BearerFileError::Exposed { path: path.clone(), mode });
        }
        // Some white space around it.
        let bytes = read_file(path, 2 * BEARER_BYTES_MAX as u64)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| BearerError).and_then(|text| text.trim().parse());
        text.map_err(|source| BearerFileError::Malformed { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, BearerSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credential");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, BearerSource::File(path))
    }

    #[test]
    fn the_whole_file_counts_without_white_space_around_it() {
        let (_dir, source) = file(b"\n rsc_00_abc\r\n", 0o400);
        assert_eq!(source.read().unwrap().expose(), "rsc_00_abc");
    }

    #[test]
    fn a_file_that_others_can_open_is_refused_and_says_what_to_do() {
        for mode in [0o640, 0o604, 0o620, 0o644] {
            let (_dir, source) = file(b"rsc_00_abc", mode);
            let message = source.read().unwrap_err().to_string();
            assert!(message.contains(&format!("mode {mode:04o}")) && message.contains("chmod 600"), "{message}");
        }
    }

    #[test]
    fn anything_but_one_word_is_refused_and_not_repeated() {
        let long = vec![b'a'; BEARER_BYTES_MAX + 1];
        for text in [&b""[..], b" \n", b"two words", b"two\nlines", b"\xff", "sécret".as_bytes(), &long] {
            let (_dir, source) = file(text, 0o600);
            let error = source.read().unwrap_err();
            assert!(matches!(error, BearerFileError::Malformed { .. }), "{error}");
            assert!(!format!("{error} {error:?}").contains("words"), "{error}");
        }
        let (_dir, source) = file(&vec![b' '; 3 * BEARER_BYTES_MAX], 0o600);
        assert!(matches!(source.read(), Err(BearerFileError::File(FileError::TooLarge { .. }))));
        let missing = BearerSource::File("/nowhere/at/all".into()).read().unwrap_err().to_string();
        assert_eq!(missing, "cannot read /nowhere/at/all");
    }

    #[test]
    fn a_debug_form_does_not_show_it() {
        let source = BearerSource::Text("rsc_00_secret".parse().unwrap());
        assert!(!format!("{source:?}").contains("secret"));
    }
}
