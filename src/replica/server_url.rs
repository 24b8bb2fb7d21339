//! Where a server is: `https://host:port`, `http://host:port` or `unix:/path`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;

use super::socket_path::{SocketPath, SocketPathError};

/// The most servers in one list.
pub const SERVERS_MAX: usize = 16;

/// The URL of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerUrl {
    /// Over TCP, in clear: `http`, a host, and a port if it is not 80.
    Http(Uri),
    /// Over TLS: `https`, a host, and a port if it is not 443.
    Https(Uri),
    /// Through a Unix socket of this machine.
    Unix(SocketPath),
}

/// Why a URL does not name a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no such URL.
    #[error(
        "{given:?} is not the URL of a server; expected one such as http://127.0.0.1:7009 or https://rescind.internal:7009, \
         without path or query, or unix:/run/rescind.sock"
    )]
    Malformed {
        /// What was given, without what stands before an `@`: that may be a password.
        given: String,
    },
    /// It is meant to be a Unix socket.
    #[error(transparent)]
    Socket(#[from] SocketPathError),
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        if SocketPath::is_meant(trimmed) {
            return Ok(Self::Unix(trimmed.parse()?));
        }
        let malformed = || UrlError::Malformed { given: without_userinfo(text) };
        let uri: Uri = trimmed.parse().map_err(|_| malformed())?;
        let bare = uri.path() == "/" && uri.query().is_none();
        let has_userinfo = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        match uri.scheme_str() {
            Some("http") if bare && !has_userinfo => Ok(Self::Http(uri)),
            Some("https") if bare && !has_userinfo => Ok(Self::Https(uri)),
            _ => Err(malformed()),
        }
    }
}

fn without_userinfo(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.split_once("://").map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
    format!("{scheme}…@{host}")
}

impl ServerUrl {
    /// Whether what is sent there stays between the two ends: in TLS, or on this machine.
    #[must_use]
    pub fn is_confidential(&self) -> bool {
        match self {
            Self::Https(_) | Self::Unix(_) => true,
            Self::Http(uri) => is_loopback(host(uri)),
        }
    }

    /// Whether a secret may be sent there.
    ///
    /// # Errors
    /// When others could read it.
    pub fn require_confidential(&self) -> Result<(), InClear> {
        if self.is_confidential() { Ok(()) } else { Err(InClear { url: self.clone() }) }
    }
}

/// A secret would travel where others can read it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a credential is not sent to {url} in clear, where others could read it: give an https:// URL, a Unix socket, or an \
     address on this machine"
)]
pub struct InClear {
    /// The server.
    pub url: ServerUrl,
}

/// The host of a URL, an IPv6 address without its brackets.
#[must_use]
pub fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// `localhost` is loopback whatever a name server says (RFC 6761 §6.3).
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(uri) | Self::Https(uri) => f.write_str(uri.to_string().trim_end_matches('/')),
            Self::Unix(path) => fmt::Display::fmt(path, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_urls_of_servers_are_taken() {
        for (url, name) in [
            ("http://127.0.0.1:7009", "http://127.0.0.1:7009"),
            ("http://[::1]:7009/", "http://[::1]:7009"),
            (" http://rescind.internal:7009", "http://rescind.internal:7009"),
            ("https://rescind.internal:7009/", "https://rescind.internal:7009"),
            ("unix:/run/rescind.sock", "unix:/run/rescind.sock"),
        ] {
            assert_eq!(url.parse::<ServerUrl>().unwrap().to_string(), name);
        }
        for url in ["", "127.0.0.1:7009", "ftp://a:1", "http://a/b", "https://a/b", "http://a/?q", "/run/a"] {
            assert_eq!(url.parse::<ServerUrl>(), Err(UrlError::Malformed { given: url.into() }));
        }
        for (url, shown) in [("http://u:p@a:1", "http://…@a:1"), ("u:p@q@a:1/b", "…@a:1/b")] {
            assert_eq!(url.parse::<ServerUrl>(), Err(UrlError::Malformed { given: shown.into() }));
        }
        for url in ["unix:a", "unix://a"] {
            assert!(matches!(url.parse::<ServerUrl>(), Err(UrlError::Socket(_))), "{url}");
        }
    }

    #[test]
    fn secrets_stay_between_the_ends_in_tls_and_on_this_machine() {
        for (url, expected) in [
            ("https://192.0.2.1:7009", true),
            ("unix:/run/rescind.sock", true),
            ("http://127.0.0.1:7009", true),
            ("http://[::1]:7009", true),
            ("http://LocalHost:7009", true),
            ("http://[::ffff:127.0.0.1]:7009", true),
            ("http://192.0.2.1:7009", false),
            ("http://localhost.example:7009", false),
            ("http://127.0.0.1.example:7009", false),
        ] {
            assert_eq!(url.parse::<ServerUrl>().unwrap().is_confidential(), expected, "{url}");
        }
    }
}
