//! Where a Unix socket is: an absolute path that fits into a socket address.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path of a Unix socket, in bytes: what Linux has room for, less the byte that ends it.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// What stands before the path wherever it is written.
const SCHEME: &str = "unix:";

/// The path of a Unix socket, written `unix:/absolute/path`.
///
/// ```
/// use rescind::replica::SocketPath;
/// let path: SocketPath = "unix:/run/rescind.sock".parse()?;
/// assert_eq!(path.to_string(), "unix:/run/rescind.sock");
/// # Ok::<(), rescind::replica::SocketPathError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SocketPath(PathBuf);

/// Why a text does not name a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketPathError {
    /// It does not start with `unix:/`, or it names a folder, or it holds a zero byte.
    #[error("{given:?} is not unix: and the absolute path of a socket, such as unix:/run/rescind.sock")]
    Malformed {
        /// What was given.
        given: String,
    },
    /// The system has no room for it.
    #[error("the path of a Unix socket has at most {SOCKET_PATH_BYTES_MAX} bytes, {bytes} given in {given:?}")]
    TooLong {
        /// What was given.
        given: String,
        /// The length of the path in bytes.
        bytes: usize,
    },
}

impl SocketPath {
    /// Whether a text means to name a Unix socket, rightly or not.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }
}

impl FromStr for SocketPath {
    type Err = SocketPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix(SCHEME).filter(|path| {
            // Two slashes would be the beginning of a host to those who know URLs.
            path.starts_with('/') && !path.starts_with("//") && !path.ends_with('/') && !path.contains('\0')
        });
        let path = path.ok_or_else(|| SocketPathError::Malformed { given: text.to_owned() })?;
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(SocketPathError::TooLong { given: text.to_owned(), bytes: path.len() });
        }
        Ok(Self(path.into()))
    }
}

impl AsRef<Path> for SocketPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths_of_files_are_taken() {
        for text in ["unix:/a", "unix:/run/rescind/rescind.sock", "unix:/run/a b:c"] {
            assert_eq!(text.parse::<SocketPath>().unwrap().to_string(), text);
        }
        for text in ["", "/a", "unix:", "unix:a", "unix:/", "unix:/a/", "unix:///a", "unix://a", "Unix:/a", "unix:/a\0"]
        {
            let refused = text.parse::<SocketPath>().unwrap_err();
            assert_eq!(refused, SocketPathError::Malformed { given: text.into() });
        }
    }

    #[test]
    fn a_path_that_no_socket_address_holds_is_refused_by_its_length() {
        let path = |bytes: usize| format!("unix:/{}", "x".repeat(bytes - 1)).parse::<SocketPath>();
        assert!(path(107).is_ok());
        let message = path(108).unwrap_err().to_string();
        assert!(message.contains("at most 107 bytes, 108 given"), "{message}");
    }
}
