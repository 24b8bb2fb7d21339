//! What a subscriber costs the server's memory.

use std::time::{Duration, Instant};

use rescind::replication::subscription::STALLED_AFTER;

use crate::kernel;
use crate::server::{Server, Writer};
use crate::subscriber::{Fleet, Options, Stall};
use crate::table::{Target, row};

const CONNECTED: usize = 5000;
const STALLED: usize = 200;

fn settle() {
    std::thread::sleep(Duration::from_secs(3));
}

/// KiB for each of 5,000.
fn per_idle(server: &Server) -> f64 {
    drop(Fleet::live(server.address, 1));
    settle();
    let before = server.process.resident_kib();
    let fleet = Fleet::live(server.address, CONNECTED);
    settle();
    let after = server.process.resident_kib();
    assert_eq!(fleet.gone(), 0);
    (after - before) / CONNECTED as f64
}

/// Idle subscribers, beside the bare peer.
pub(crate) fn idle() {
    let (real, bare) = (per_idle(&Server::real()), per_idle(&Server::bare()));
    row("memory per idle subscriber, 5,000 connected", real, " KiB", Target::AtMost(28.0));
    row("  bare hyper", bare, " KiB", Target::None);
}

/// The server's growth while 200 subscribers are sent what overruns every buffer of theirs, in KiB.
fn growth(stall: Option<Stall>) -> f64 {
    /// More than half a window, so that the client grants as much again and the server takes its next batch from the log.
    const ALLOWED_BYTES: usize = 48 << 10;
    let server = Server::real();
    let narrow = matches!(stall, Some(Stall::Socket));
    let fleet = Fleet::live_with(server.address, Options { count: STALLED, at_once: 64, narrow, ..Options::default() });
    let reader =
        Fleet::live_with(server.address, Options { count: 1, first: STALLED, at_once: 1, ..Options::default() });
    let mut writer = Writer::to(&server);
    settle();
    let before = server.process.resident_kib();
    let (begin, read_before) = (Instant::now(), reader.read());
    if let Some(stall) = stall {
        fleet.stall(STALLED, stall);
    }
    // Small frames: they cost the most beside their bytes.
    for round in 1..=2 {
        let begin = Instant::now();
        writer.write_times(1500, 1);
        // Beyond this the server would rightly cut them.
        assert!(begin.elapsed() < STALLED_AFTER, "the writes took {:?}", begin.elapsed());
        fleet.allow(round * ALLOWED_BYTES);
    }
    settle();
    let after = server.process.resident_kib();
    if narrow {
        assert!(begin.elapsed() < STALLED_AFTER, "nothing was taken for {:?}", begin.elapsed());
        assert_stalled(&server, reader.read() - read_before);
    }
    assert_eq!(fleet.gone(), 0);
    after - before
}

/// Of what was sent to each the kernel holds less than half: the rest waits in the server.
fn assert_stalled(server: &Server, sent: usize) {
    let held = kernel::unread(server.address);
    let waiting = held.values().filter(|held| (1..sent / 2).contains(*held)).count();
    assert!(waiting >= STALLED, "{waiting} of {STALLED} stall; {sent} bytes were sent, and the kernel holds {held:?}");
}

/// Stalled subscribers, against the same writes with all of them reading.
pub(crate) fn stalled() {
    let reading = growth(None);
    let per_stalled = |stall| (growth(Some(stall)) - reading) / STALLED as f64;
    row(
        "extra memory per stalled subscriber, stream not read",
        per_stalled(Stall::Stream),
        " KiB",
        Target::AtMost(64.0),
    );
    row(
        "extra memory per stalled subscriber, socket not read",
        per_stalled(Stall::Socket),
        " KiB",
        Target::AtMost(64.0),
    );
    row("  the server's growth with all reading", reading / 1024.0, " MiB", Target::None);
}
