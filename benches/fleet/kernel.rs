//! What the kernel holds of what a server sent (Linux).

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The state of a connection that neither side has closed, in `/proc/net/tcp`.
const ESTABLISHED: &str = "01";

/// For each open connection to `server`, by the port of its far end: bytes that the server has written and the far end
/// has not read.
pub(crate) fn unread(server: SocketAddr) -> BTreeMap<u16, usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut unread = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (near, far) = (port(fields[1]), port(fields[2]));
        let (to_send, received) = fields[4].split_once(':').unwrap();
        if fields[3] != ESTABLISHED {
            continue;
        }
        if near == server.port() {
            *unread.entry(far).or_default() += bytes(to_send);
        } else if far == server.port() {
            *unread.entry(near).or_default() += bytes(received);
        }
    }
    unread
}

fn port(address: &str) -> u16 {
    u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap()
}

fn bytes(hex: &str) -> usize {
    usize::from_str_radix(hex, 16).unwrap()
}
