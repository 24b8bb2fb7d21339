//! Where callers connect: a TCP port or a Unix socket.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::wire::{SocketPath, SocketPathError};

/// An address to listen on, written `IP:PORT` or `unix:/absolute/path`.
///
/// ```
/// use rescind::surface::Address;
/// for text in ["127.0.0.1:7009", "[::1]:7009", "unix:/run/rescind.sock"] {
///     assert_eq!(text.parse::<Address>()?.to_string(), text);
/// }
/// # Ok::<(), rescind::surface::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket: reached by this machine's processes only, as the file's permissions allow.
    Unix(SocketPath),
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is neither.
    #[error("invalid socket address {given:?}: expected IP:PORT or unix:/absolute/path")]
    Malformed {
        /// What was given.
        given: String,
    },
    /// It is meant to be a Unix socket.
    #[error(transparent)]
    Unix(#[from] SocketPathError),
}

impl Address {
    /// The address, if it is a TCP port.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// Whether processes on this machine only can connect.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tcp().is_none_or(|address| address.ip().to_canonical().is_loopback())
    }

    /// How an address of this kind is written.
    pub(super) fn form(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "HOST:PORT",
            Self::Unix(_) => "unix:/PATH",
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if SocketPath::is_meant(text) {
            return Ok(Self::Unix(text.parse()?));
        }
        text.parse().map(Self::Tcp).map_err(|_| AddressError::Malformed { given: text.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => fmt::Display::fmt(address, f),
            Self::Unix(path) => fmt::Display::fmt(path, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_else_is_refused_and_says_what_is_expected() {
        for text in ["", "7009", "localhost:7009", "127.0.0.1", "/run/a", "http://127.0.0.1:1"] {
            let message = text.parse::<Address>().unwrap_err().to_string();
            assert!(message.contains("IP:PORT or unix:/absolute/path"), "{message}");
        }
        let message = "unix:run/a".parse::<Address>().unwrap_err().to_string();
        assert!(message.contains("absolute path"), "{message}");
    }

    #[test]
    fn loopback_and_unix_sockets_are_local() {
        for (text, local) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/a", true),
            ("0.0.0.0:1", false),
            ("192.0.2.1:1", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_local(), local, "{text}");
        }
    }
}
