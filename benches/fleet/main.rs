//! What a fleet of subscribers costs: delay, memory, storms, snapshots.
//!
//! Servers run in processes of their own: the real binary, as a server and as a relay, and a bare hyper server that sends
//! the same bytes. `fleet ROW...` measures only those rows.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench"
)]

mod bare;
mod delay;
mod kernel;
mod memory;
mod resync;
mod server;
mod snapshot;
mod storm;
mod subscriber;
#[path = "../table/mod.rs"]
mod table;

/// The rows, by the name that chooses them.
const ROWS: [(&str, fn()); 9] = [
    ("revisions", delay::many_revisions),
    ("subscribers", delay::many_subscribers),
    ("relay", delay::through_relay),
    ("idle", memory::idle),
    ("stalled", memory::stalled),
    ("writes", delay::stalled_tenth),
    ("storm", storm::reconnects),
    ("joiners", snapshot::joiners),
    ("resync", snapshot::resync),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if arguments.iter().any(|argument| argument == "role=bare") {
        return runtime().block_on(bare::serve());
    }
    if let Some(url) = arguments.iter().find_map(|argument| argument.strip_prefix("replica=")) {
        return runtime().block_on(resync::follow(url));
    }
    for (name, measure) in ROWS {
        if arguments.is_empty() || arguments.iter().any(|argument| argument == name) {
            measure();
        }
    }
}
