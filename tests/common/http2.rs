//! HTTP/2 by hand, for what no well-behaved client would send: more streams than the server allows.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_HEADERS: u8 = 4;
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
        let mut stream = TcpStream::connect_timeout(&server, TIMEOUT).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(PREFACE).unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Self { stream, next_stream: 1, path: path.to_owned(), authority: server.to_string() }
    }

    /// Opens a gRPC call and leaves it open, however many there are.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        // From the static table (RFC 7541, appendix A): POST, http, and the names :path, :authority, content-type.
        let mut block = vec![0x83, 0x86];
        literal(&mut block, &[0x04], &self.path);
        literal(&mut block, &[0x01], &self.authority);
        literal(&mut block, &[0x0f, 0x10], "application/grpc");
        literal(&mut block, &[0x00, 2, b't', b'e'], "trailers");
        let bytes = frame(HEADERS, END_HEADERS, self.next_stream, &block);
        self.next_stream += 2;
        self.stream.write_all(&bytes)
    }

    /// Reads until the server ends the connection.
    pub(crate) fn end(mut self) -> Ended {
        let mut head = [0; 9];
        while self.stream.read_exact(&mut head).is_ok() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            if self.stream.read_exact(&mut payload).is_err() {
                break;
            }
            if head[3] == GOAWAY {
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

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
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
