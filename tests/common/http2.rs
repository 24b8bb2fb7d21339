//! HTTP/2 by hand, for what no well-behaved client would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that has said its preface.
pub(crate) struct Http2 {
    stream: TcpStream,
    next_stream: u32,
    path: String,
    authority: String,
}

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With GOAWAY, for this reason (RFC 9113 §7).
    GoAway(u32),
    /// Without a word.
    Closed,
}

impl Http2 {
    /// Connects, to call `path` over and over.
    pub(crate) fn connect(server: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect_timeout(&server, TIMEOUT).unwrap(), server, path)
    }

    /// The same over a socket that is connected.
    pub(crate) fn over(mut stream: TcpStream, server: SocketAddr, path: &str) -> Self {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(PREFACE).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream, next_stream: 1, path: path.to_owned(), authority: server.to_string() }
    }

    /// Opens a gRPC call and leaves it open, however many there are.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        let bytes = self.call();
        self.stream.write_all(&bytes)
    }

    /// The frame that opens the next gRPC call.
    pub(crate) fn call(&mut self) -> Vec<u8> {
        let bytes = frame(HEADERS, END_HEADERS, self.next_stream, &self.header_block());
        self.next_stream += 2;
        bytes
    }

    /// The stream that was opened last.
    pub(crate) fn last_stream(&self) -> u32 {
        self.next_stream - 2
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Gives up writing when the server takes nothing for so long.
    pub(crate) fn write_within(&self, limit: Duration) {
        self.stream.set_write_timeout(Some(limit)).unwrap();
    }

    /// Sends nothing more; what the server says can still be read.
    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Everything that the server says until it ends the connection: kind, stream and payload.
    pub(crate) fn frames(mut self) -> Vec<(u8, u32, Vec<u8>)> {
        std::iter::from_fn(|| self.next_frame()).collect()
    }

    fn next_frame(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    fn header_block(&self) -> Vec<u8> {
        // From the static table (RFC 7541, appendix A): POST, http, and the names :path, :authority, content-type.
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], &self.path);
        literal(&mut block, &[0x01], &self.authority);
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, &[0x00, 2, b't', b'e'], "trailers");
        block
    }

    /// Reads until the server ends the connection.
    pub(crate) fn end(mut self) -> Ended {
        while let Some((kind, _, payload)) = self.next_frame() {
            if kind == GOAWAY {
                let reason = payload.get(4..8).and_then(|reason| reason.try_into().ok()).map_or(0, u32::from_be_bytes);
                return Ended::GoAway(reason);
            }
        }
        Ended::Closed
    }

    /// The same connection, to be read while it is written to.
    pub(crate) fn reader(&self) -> Self {
        let stream = self.stream.try_clone().unwrap();
        Self { stream, next_stream: 0, path: String::new(), authority: String::new() }
    }
}

/// A frame with its head (RFC 9113 §4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A field that is not to be indexed, its value without Huffman coding.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.push(u8::try_from(value.len()).expect("short"));
    block.extend_from_slice(value.as_bytes());
}
