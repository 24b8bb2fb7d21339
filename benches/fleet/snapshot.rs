//! A million entries: for ten that join at once, and for a replica that starts with nothing or is sent them again.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::resync::{Origin, REVISIONS};
use crate::server::{Process, Server, Writer};
use crate::subscriber::{Fleet, Options};
use crate::table::{Target, row};

const JOINERS: usize = 10;
const ENTRIES: u64 = 1_000_000;
/// Of an entry in a snapshot.
const ENTRY_BYTES: f64 = 24.0;

/// A server with a million live entries, restarted so that it has a snapshot of them.
fn filled() -> Server {
    let server = Server::real();
    let mut writer = Writer::to(&server);
    writer.write_times(ENTRIES / 10_000, 10_000);
    drop(writer);
    server.restarted()
}

/// Ten snapshots at once, and the cold start of a replica.
pub(crate) fn joiners() {
    let server = filled();
    server.process.until_idle();
    let begin = server.process.resident_kib();
    let done = Arc::new(AtomicBool::new(false));
    let peak = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = begin;
            while !done.load(Ordering::Relaxed) {
                peak = server.process.resident_kib().max(peak);
                std::thread::sleep(Duration::from_millis(2));
            }
            peak
        });
        let fleet = Fleet::connect(server.address, Options { count: JOINERS, at_once: JOINERS, ..Options::default() });
        let took = fleet.until_live(Duration::from_secs(60));
        done.store(true, Ordering::Relaxed);
        assert_eq!(fleet.snapshots(), JOINERS);
        row("  10 snapshots of 1M entries at once, until all have them", took.as_secs_f64(), " s", Target::None);
        watcher.join().unwrap()
    });
    let shared = ENTRIES as f64 * ENTRY_BYTES / 1024.0 / 1024.0;
    let bound = (shared + JOINERS as f64).floor();
    row("server's growth during 10 snapshots of 1M entries", (peak - begin) / 1024.0, " MiB", Target::AtMost(bound));
    cold_start(&server);
}

/// A replica in a process of its own; the lines that it says.
fn replica(url: &str) -> (Process, impl Iterator<Item = f64> + use<>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.arg(format!("replica={url}")).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Process(child), lines.map(|line| line.unwrap().parse().unwrap()))
}

fn cold_start(server: &Server) {
    let mut seconds: Vec<f64> = (0..3)
        .map(|_| {
            let (_process, mut said) = replica(&server.url());
            said.next().unwrap()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    row("cold start of a replica over loopback, 1M entries (of 3)", seconds[1], " s", Target::AtMost(1.0));
}

/// What a replica's memory comes to while it is sent everything again.
pub(crate) fn resync() {
    let origin = Origin::serve(ENTRIES, REVISIONS[0]);
    let (_process, mut said) = replica(&origin.url());
    let (_cold, steady) = (said.next().unwrap(), said.next().unwrap());
    let origin = origin.go_on_from(REVISIONS[1]);
    let begin = Instant::now();
    let peak = said.next().unwrap();
    drop(origin);
    row("a replica's peak memory during a resync, against steady", peak / steady, "x", Target::AtMost(2.2));
    row("  steady", steady / 1024.0, " MiB", Target::None);
    row("  peak", peak / 1024.0, " MiB", Target::None);
    row("  until it had swapped", begin.elapsed().as_secs_f64(), " s", Target::None);
}
