//! From the acknowledgement of a write to its being received by every subscriber, and what subscribers cost the writer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::server::{Server, Writer, Written};
use crate::subscriber::{Fleet, Stall};
use crate::table::{Target, row};

const WARM_UP: Duration = Duration::from_secs(2);
const DURING: Duration = Duration::from_secs(10);
/// What is on its way when the last write is acknowledged.
const LAST_FRAMES: Duration = Duration::from_millis(500);

/// Milliseconds, sorted.
struct Delays(Vec<f64>);

impl Delays {
    fn sorted(mut millis: Vec<f64>) -> Self {
        assert!(!millis.is_empty(), "nothing was measured");
        millis.sort_by(f64::total_cmp);
        Self(millis)
    }

    fn at(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }
}

struct Propagation {
    /// From the acknowledgement.
    acknowledged: Delays,
    /// From the request.
    sent: Delays,
}

impl Propagation {
    /// All of several turns.
    fn of(turns: Vec<Self>) -> Self {
        let (acknowledged, sent) =
            turns.into_iter().map(|turn| (turn.acknowledged.0, turn.sent.0)).unzip::<_, _, Vec<_>, Vec<_>>();
        Self { acknowledged: Delays::sorted(acknowledged.concat()), sent: Delays::sorted(sent.concat()) }
    }
}

/// What subscribers at `address` see of what is written.
fn propagation(writer: &mut Writer, address: SocketAddr, subscribers: usize, per_second: u32) -> Propagation {
    let fleet = Fleet::live(address, subscribers);
    writer.write_steadily(per_second, WARM_UP);
    std::thread::sleep(LAST_FRAMES);
    fleet.arrivals();
    let written: HashMap<u64, Written> =
        writer.write_steadily(per_second, DURING).into_iter().map(|written| (written.revision, written)).collect();
    std::thread::sleep(LAST_FRAMES);
    let arrivals = fleet.arrivals();
    assert_eq!(fleet.gone(), 0);
    assert_eq!(arrivals.len(), written.len() * subscribers, "every subscriber received every revision");
    let since = |from: fn(&Written) -> Instant| {
        let delay = |(revision, at): &(u64, Instant)| {
            Some(at.saturating_duration_since(from(written.get(revision)?)).as_secs_f64() * 1000.0)
        };
        Delays::sorted(arrivals.iter().filter_map(delay).collect())
    };
    Propagation { acknowledged: since(|written| written.acknowledged), sent: since(|written| written.sent) }
}

/// What subscribers of the server itself see.
fn direct(server: &Server, subscribers: usize, per_second: u32) -> Propagation {
    propagation(&mut Writer::to(server), server.address, subscribers, per_second)
}

/// 250 subscribers, 200 revisions a second.
pub(crate) fn many_revisions() {
    let Propagation { acknowledged, sent } = direct(&Server::real(), 250, 200);
    row(
        "acknowledged -> received, 250 subscribers, 200 revisions/s, p50",
        acknowledged.at(0.5),
        " ms",
        Target::AtMost(5.0),
    );
    row(
        "acknowledged -> received, 250 subscribers, 200 revisions/s, p99",
        acknowledged.at(0.99),
        " ms",
        Target::AtMost(25.0),
    );
    row("  sent -> received, p50", sent.at(0.5), " ms", Target::None);
    let bare = direct(&Server::bare(), 250, 200);
    row("  bare hyper, acknowledged -> received, p50", bare.acknowledged.at(0.5), " ms", Target::None);
    row("  bare hyper, acknowledged -> received, p99", bare.acknowledged.at(0.99), " ms", Target::None);
}

/// 1,000 subscribers, 20 revisions a second, beside the bare peer.
pub(crate) fn many_subscribers() {
    let real = direct(&Server::real(), 1000, 20);
    let bare = direct(&Server::bare(), 1000, 20);
    let ratio = real.acknowledged.at(0.5) / bare.acknowledged.at(0.5);
    row("1,000 subscribers, 20 revisions/s, p50 against bare hyper", ratio, "x", Target::AtMost(1.5));
    for (what, Propagation { acknowledged, sent }) in [("rescind", real), ("bare hyper", bare)] {
        row(&format!("  {what}, acknowledged -> received, p50"), acknowledged.at(0.5), " ms", Target::None);
        row(&format!("  {what}, acknowledged -> received, p99"), acknowledged.at(0.99), " ms", Target::None);
        row(&format!("  {what}, sent -> received, p50"), sent.at(0.5), " ms", Target::None);
    }
}

/// Both loads through one relay, against the server itself.
pub(crate) fn through_relay() {
    /// Turns of each kind, one after the other, so that both see the same neighbours.
    const TURNS: usize = 2;
    for (subscribers, per_second) in [(250, 200), (1000, 20)] {
        let server = Server::real();
        let relay = Server::relay_of(&server);
        let mut writer = Writer::to(&server);
        let (mut direct, mut relayed) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            for (address, turns) in [(server.address, &mut direct), (relay.address, &mut relayed)] {
                turns.push(propagation(&mut writer, address, subscribers, per_second));
            }
        }
        let (direct, relayed) = (Propagation::of(direct), Propagation::of(relayed));
        let more = relayed.acknowledged.at(0.5) - direct.acknowledged.at(0.5);
        let load = format!("{subscribers} subscribers, {per_second} revisions/s");
        row(&format!("{load}, p50 through one relay above direct"), more, " ms", Target::AtMost(1.0));
        for (what, Propagation { acknowledged, sent }) in [("direct", direct), ("relayed", relayed)] {
            row(&format!("  {what}, acknowledged -> received, p50"), acknowledged.at(0.5), " ms", Target::None);
            row(&format!("  {what}, acknowledged -> received, p99"), acknowledged.at(0.99), " ms", Target::None);
            row(&format!("  {what}, sent -> received, p50"), sent.at(0.5), " ms", Target::None);
        }
    }
}

/// What a write takes with a tenth of 1,000 subscribers stalled, against none.
pub(crate) fn stalled_tenth() {
    /// Turns of each kind, one after the other, so that both see the same neighbours.
    const TURNS: usize = 3;
    const TURN: Duration = Duration::from_secs(5);
    let (mut none, mut tenth) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        for (stalled, latencies) in [(0, &mut none), (100, &mut tenth)] {
            let server = Server::real();
            let fleet = Fleet::live(server.address, 1000);
            let mut writer = Writer::to(&server);
            fleet.stall(stalled, Stall::Stream);
            // More than a stream's window: from here on the server waits for those that stall.
            writer.write_times(8, 1000);
            std::thread::sleep(LAST_FRAMES);
            let took = |written: &Written| (written.acknowledged - written.sent).as_secs_f64() * 1000.0;
            latencies.extend(writer.write_steadily(50, TURN).iter().map(took));
            assert_eq!(fleet.gone(), 0);
        }
    }
    let (none, tenth) = (Delays::sorted(none), Delays::sorted(tenth));
    row(
        "write latency, 10 % of 1,000 stalled against none, p50",
        tenth.at(0.5) / none.at(0.5),
        "x",
        Target::AtMost(1.1),
    );
    row(
        "write latency, 10 % of 1,000 stalled against none, p99",
        tenth.at(0.99) / none.at(0.99),
        "x",
        Target::AtMost(1.5),
    );
    for (what, latencies) in [("none", none), ("10 %", tenth)] {
        row(&format!("  {what} stalled, p50"), latencies.at(0.5), " ms", Target::None);
        row(&format!("  {what} stalled, p99"), latencies.at(0.99), " ms", Target::None);
    }
}
