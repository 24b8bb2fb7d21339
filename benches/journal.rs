//! Durable revokes per second with the search index running, beside a bare append and fdatasync of the same bytes.
//!
//! `cargo bench --bench journal [-- seconds]`. Every phase writes to a directory of its own under `$RESCIND_BENCH_DIR`, or
//! else the temporary directory, which must lie on the disk that is meant.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use rescind::clock::{BootTime, Clock};
use rescind::journal::{
    Action, Body, EmbeddedJournal, ExpiryBasis, Index, Journal as _, Options, Record, Request, Revocation,
};
use rescind::revocation::{
    Chain, Cutoff, Delta, Mark, Minute, PackedEntry, Revision, Selector, SetKey, TestedClaim, UnixMillis, UnixSeconds,
};

/// Requests and revocations per request in one record.
const SHAPES: [(&str, usize, usize); 3] =
    [("1 request of 256", 1, 256), ("64 requests of 1", 64, 1), ("1 request of 1", 1, 1)];

/// How long the index may take to catch up before that counts as a failure.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

fn main() {
    let seconds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(10);
    let duration = Duration::from_secs(seconds);
    println!("| a record is | store | revocations/s | records/s | p50 ms | p99 ms | max ms | MiB | index lag at end |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for (name, requests, revocations) in SHAPES {
        let shape = Shape { requests, revocations, key: SetKey::new([7; 16]) };
        bare(name, &shape, duration);
        journal(name, &shape, duration, false);
        journal(name, &shape, duration, true);
    }
}

fn bare(name: &str, shape: &Shape, duration: Duration) {
    let dir = directory();
    let mut file = File::create(dir.path().join("bare")).unwrap();
    let measured = measure(shape, duration, |record| {
        file.write_all(&record.encode().unwrap()).unwrap();
        file.sync_data().unwrap();
    });
    measured.print(name, "file, fdatasync", "");
}

fn journal(name: &str, shape: &Shape, duration: Duration, is_indexed: bool) {
    let dir = directory();
    let options = Options { clock: Clock::system(), verify_after: Revision(0) };
    let mut journal = EmbeddedJournal::open(dir.path(), &options).unwrap().journal;
    let index =
        is_indexed.then(|| Index::open(dir.path(), journal.identity(), journal.reader().unwrap()).unwrap().index);
    let measured = measure(shape, duration, |record| {
        let _ = journal.append(record).unwrap();
        if let Some(index) = &index {
            index.notify();
        }
    });
    let Some(index) = index else { return measured.print(name, "journal", "") };
    let per_record = (shape.requests * shape.revocations) as u64;
    let lag = journal.head().0 - index.indexed_through().0;
    let start = Clock::system().boot();
    assert!(index.wait_through(journal.head(), CATCH_UP_MAX));
    let caught_up = Clock::system().boot().since(start);
    let lag = format!("{} revocations, {:.1} s", lag * per_record, caught_up.as_secs_f64());
    measured.print(name, "journal and index", &lag);
}

fn directory() -> tempfile::TempDir {
    let parent = std::env::var_os("RESCIND_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::TempDir::new_in(parent).unwrap()
}

struct Measured {
    revocations: usize,
    bytes: usize,
    took: Duration,
    each: Vec<Duration>,
}

fn measure(shape: &Shape, duration: Duration, mut append: impl FnMut(&Record)) -> Measured {
    let clock = Clock::system();
    let start = clock.boot();
    let (mut each, mut bytes, mut revision) = (Vec::new(), 0, Revision(1));
    while clock.boot().since(start) < duration {
        let record = shape.record(revision);
        let before: BootTime = clock.boot();
        append(&record);
        each.push(clock.boot().since(before));
        bytes += record.encode().unwrap().len();
        revision = revision.next();
    }
    let took = clock.boot().since(start);
    each.sort_unstable();
    Measured { revocations: each.len() * shape.requests * shape.revocations, bytes, took, each }
}

impl Measured {
    fn print(&self, name: &str, store: &str, lag: &str) {
        let per_second = |count: usize| count as f64 / self.took.as_secs_f64();
        let at = |share: f64| self.each[((self.each.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let mib = self.bytes as f64 / f64::from(1 << 20);
        println!(
            "| {name} | {store} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {mib:.0} | {lag} |",
            per_second(self.revocations),
            per_second(self.each.len()),
            at(0.5),
            at(0.99),
            at(1.0),
        );
    }
}

struct Shape {
    requests: usize,
    revocations: usize,
    key: SetKey,
}

impl Shape {
    /// Random-looking token ids at one issuer: what a logout of many sessions looks like.
    fn record(&self, revision: Revision) -> Record {
        let mut delta = Delta::empty(revision, UnixMillis(revision.0), Minute::default());
        let mut number = revision.0 << 20;
        let mut requests = Vec::with_capacity(self.requests);
        for _ in 0..self.requests {
            let mut revocations = Vec::with_capacity(self.revocations);
            for _ in 0..self.revocations {
                number += 1;
                let revocation = revocation(number);
                let entry = PackedEntry::new(revocation.mark.cutoff, revocation.mark.expiry, false);
                delta.upserts.push((self.key.fingerprint(&revocation.selector), entry));
                revocations.push(revocation);
            }
            requests.push(request(number, revocations));
        }
        delta.upserts.sort_unstable_by_key(|(fingerprint, _)| *fingerprint);
        let delta = delta.encode();
        Record { revision, chain_after: Chain::default(), body: Body::Requests(requests), delta }
    }
}

fn request(number: u64, revocations: Vec<Revocation>) -> Request {
    Request {
        principal: "logout-service".into(),
        peer: "10.1.2.3:45678".into(),
        request_id: Some(format!("{number:032x}")),
        body_hash: [7; 32],
        received_at: UnixMillis(number),
        action: Action::Revoke(revocations),
    }
}

fn revocation(number: u64) -> Revocation {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let jti = format!("{scattered:016x}{number:016x}");
    let pairs = [("iss", "https://issuer.example.com"), ("jti", &jti)];
    Revocation {
        selector: Selector::new(pairs, TestedClaim::Iat).unwrap(),
        mark: Mark {
            cutoff: Cutoff::UNBOUNDED,
            expiry: Minute::ceil(UnixSeconds(2_000_000_000)).unwrap(),
            spares: Vec::new(),
        },
        exceptions: Vec::new(),
        expiry_basis: ExpiryBasis::TokenExp,
        reason: "signed out".into(),
        already_expired: false,
        merged: false,
    }
}
