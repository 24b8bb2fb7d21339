//! Bound sockets of either kind, and the file of a Unix socket.
//!
//! A file left behind by a process that was killed is replaced: nobody answers there. One that somebody answers on is
//! theirs, and anything that is no socket is left alone.
//!
//! # Invariants
//! - U1. Nobody can connect before the file has its mode: it is set between binding and listening.
//! - U2. Only the file that was made here is removed: it is compared while the socket still holds its inode, which
//!   therefore no other file can have.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio_util::either::Either;

use super::address::Address;
use super::listener::Accept;
use super::peer::Peer;
use crate::wire::SocketPath;

/// Who may connect: the user and the group of the process.
const SOCKET_MODE: u32 = 0o660;
/// Connections that wait to be accepted: those of a fleet that comes back at once. Of what is beyond it the kernel drops the
/// first packet, and the far end tries again a second later.
const BACKLOG: u32 = 1024;

/// A bound socket.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    /// The file first: fields are dropped in order (U2).
    Unix {
        _file: UnixFile,
        listener: UnixListener,
    },
}

/// Why a socket is not bound.
pub(super) enum Refused {
    /// Somebody listens there.
    Taken,
    /// A file is there that is no socket.
    NotSocket,
    /// Anything else.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::Taken,
            _ => Self::Io(error),
        }
    }
}

impl Socket {
    /// Binds, and tells where: the port may have been 0.
    pub(super) async fn bind(address: &Address) -> Result<(Self, Address), Refused> {
        match address {
            Address::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                // As the standard library does: a restart need not wait for connections that linger.
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                let listener = socket.listen(BACKLOG)?;
                let address = listener.local_addr()?;
                Ok((Self::Tcp(listener), Address::Tcp(address)))
            }
            Address::Unix(path) => {
                make_way(path.as_ref()).await?;
                Ok((bind_unix(path)?, Address::Unix(path.clone())))
            }
        }
    }
}

impl Accept for Socket {
    type Connection = Either<TcpStream, UnixStream>;

    async fn accept(&self) -> io::Result<(Self::Connection, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Either::Left(stream), peer.into()))
            }
            Self::Unix { listener, .. } => Ok((Either::Right(listener.accept().await?.0), Peer::Unix)),
        }
    }
}

/// Removes what a process that is gone has left at `path`.
async fn make_way(path: &Path) -> Result<(), Refused> {
    let there = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        return Err(Refused::NotSocket);
    }
    match UnixStream::connect(path).await {
        // A full queue belongs to somebody too.
        Ok(_) => Err(Refused::Taken),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Refused::Taken),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        },
        Err(error) => Err(error.into()),
    }
}

fn bind_unix(path: &SocketPath) -> Result<Socket, Refused> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = UnixFile::at(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    let listener = socket.listen(BACKLOG)?;
    // Another process that started in the same moment may have taken the file for one left behind.
    if !file.is_there() {
        return Err(Refused::Taken);
    }
    Ok(Socket::Unix { _file: file, listener })
}

/// The file of a bound Unix socket; removed on drop, if it is still the same. Must be dropped before the socket (U2).
#[derive(Debug)]
pub(super) struct UnixFile {
    path: SocketPath,
    device: u64,
    inode: u64,
}

impl UnixFile {
    fn at(path: &SocketPath) -> io::Result<Self> {
        let file = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.clone(), device: file.dev(), inode: file.ino() })
    }

    fn is_there(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == (self.device, self.inode))
    }
}

impl Drop for UnixFile {
    fn drop(&mut self) {
        if self.is_there()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path, %error, "the socket file stays behind");
        }
    }
}

#[cfg(test)]
mod tests;
