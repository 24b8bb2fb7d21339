//! The far end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::revocation::Grant;
use crate::revocation::ports::Caller;

/// Who is at the far end. A port is left out: it changes with every connection, and requests are idempotent by
/// principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address; an IPv4 address mapped into IPv6 counts as IPv4.
    Ip(IpAddr),
    /// A process on this machine, through a Unix socket: whoever the file's permissions let in.
    Unix,
    /// A request that did not come through a listener of this server.
    Unknown,
}

/// Noted on requests whose connection is encrypted.
#[derive(Clone, Copy, Debug)]
pub struct Encrypted;

impl Peer {
    /// The caller that an unauthenticated peer is.
    #[must_use]
    pub fn anonymous(self) -> Caller {
        Caller { principal: format!("anonymous@{self}"), peer: self.to_string(), grant: Grant::everything() }
    }

    /// The peer that a listener noted on a request.
    pub(crate) fn of(extensions: &http::Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self::Unknown)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address.ip().to_canonical())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => fmt::Display::fmt(ip, f),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_the_same_caller_on_every_connection() {
        let caller = |address: &str| Peer::from(address.parse::<SocketAddr>().unwrap()).anonymous().principal;
        assert_eq!(caller("192.0.2.1:1000"), "anonymous@192.0.2.1");
        assert_eq!(caller("192.0.2.1:2000"), caller("[::ffff:192.0.2.1]:3000"));
        assert_eq!(Peer::Unix.anonymous().principal, "anonymous@unix");
    }
}
