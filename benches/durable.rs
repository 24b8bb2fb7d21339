//! Durable revokes for ten seconds with the search index running, and a restart with a million live entries.
//!
//! Beside them, in the same run: a bare append and fdatasync of the same bytes, one after the other, to the same disk.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, reason = "a bench")]

mod table;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rescind::authority::{Authority, Image, Options, Publish, Published, recover};
use rescind::clock::Clock;
use rescind::journal::Index;
use rescind::revocation::ports::{
    Caller, CutoffChoice, ExpiryChoice, Reports, Revoke, RevokeRequest, Target as Aim, Writes,
};
use rescind::revocation::{Grant, Revision, Selector, TestedClaim};
use table::{Target, row};

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// Nobody follows: what subscribers cost is another bench's question.
struct Nobody(AtomicU64);

impl Publish for Nobody {
    fn publish(&self, published: Published) {
        self.0.fetch_add(published.canonical.len() as u64, Ordering::Relaxed);
    }

    fn offer_snapshot(&self, _image: Arc<Image>) {}

    fn pruned(&self, _oldest: Revision) {}
}

fn start(dir: &Path) -> Arc<Authority> {
    let options = Options::new(dir.to_owned(), Clock::system());
    let recovered = recover(options).unwrap();
    let index = Index::open(dir, recovered.identity(), recovered.reader().unwrap()).unwrap().index;
    Authority::start(recovered, index, Arc::new(Nobody(AtomicU64::new(0))), [0; 32]).unwrap()
}

fn request(from: u64, count: u64) -> RevokeRequest {
    let item = |n: u64| Revoke {
        target: Aim::Selector(
            Selector::new([("iss", "https://id.example".to_owned()), ("jti", format!("{n:032x}"))], TestedClaim::Iat)
                .unwrap(),
        ),
        cutoff: CutoffChoice::Natural,
        expiry: ExpiryChoice::Natural,
        exceptions: vec![],
        reason: "bench".into(),
    };
    RevokeRequest {
        caller: Caller { principal: "bench".into(), peer: "127.0.0.1".into(), grant: Grant::everything() },
        request_id: None,
        body_hash: [0; 32],
        items: (from..from + count).map(item).collect(),
        dry_run: false,
        any_issuer: false,
        confirmed: true,
    }
}

/// `callers` at once, each with `batch` revocations a request, for ten seconds. Answers revocations and commits a second.
async fn pour(authority: &Arc<Authority>, next: &Arc<AtomicU64>, callers: usize, batch: u64) -> (f64, f64) {
    let (begin, before) = (Instant::now(), authority.status().revision.0);
    let done = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (authority, next, done) = (Arc::clone(authority), Arc::clone(next), Arc::clone(&done));
            tokio::spawn(async move {
                while begin.elapsed() < TEN_SECONDS {
                    let from = next.fetch_add(batch, Ordering::Relaxed);
                    authority.revoke(request(from, batch)).await.unwrap();
                    done.fetch_add(batch, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let took = begin.elapsed().as_secs_f64();
    let commits = authority.status().revision.0 - before;
    (done.load(Ordering::Relaxed) as f64 / took, commits as f64 / took)
}

/// Bare appends of `bytes` with fdatasync, a second.
fn bare_appends(dir: &Path, bytes: usize) -> f64 {
    let mut file = File::create(dir.join("bare")).unwrap();
    let block = vec![7; bytes];
    let (begin, mut appends) = (Instant::now(), 0u64);
    while begin.elapsed() < Duration::from_secs(3) {
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
        appends += 1;
    }
    appends as f64 / begin.elapsed().as_secs_f64()
}

/// The bytes that a commit adds to the journal's file.
fn journal_bytes(dir: &Path) -> u64 {
    std::fs::metadata(dir.join("journal.sqlite")).map_or(0, |metadata| metadata.len())
}

async fn measure(what: &str, callers: usize, batch: u64, target: f64) {
    let dir = tempfile::tempdir_in("target").unwrap();
    let authority = start(dir.path());
    let next = Arc::new(AtomicU64::new(0));
    let (rate, commits) = pour(&authority, &next, callers, batch).await;
    let lag = authority.status().revision.0 - authority.status().indexed_through.0;
    row(&format!("durable revokes a second, {what}"), rate, "/s", Target::AtLeast(target));
    row("  commits a second", commits, "/s", Target::None);
    row("  index lag at the end, revisions", lag as f64, "", Target::None);
    let begin = Instant::now();
    while authority.status().indexed_through < authority.status().revision && begin.elapsed() < Duration::from_secs(120)
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    row("  until the index had caught up", begin.elapsed().as_secs_f64(), " s", Target::None);
    authority.stop();
    let bytes = journal_bytes(dir.path()) as f64 / (commits * TEN_SECONDS.as_secs_f64());
    let bare = bare_appends(dir.path(), bytes as usize);
    row(&format!("  bare append + fdatasync of {bytes:.0} B a second"), bare, "/s", Target::None);
    row("  commits per bare append", commits / bare, "x", Target::None);
}

async fn restart_with_a_million() {
    let dir = tempfile::tempdir_in("target").unwrap();
    {
        let authority = start(dir.path());
        for batch in 0..100 {
            authority.revoke(request(batch * 10_000, 10_000)).await.unwrap();
        }
        authority.stop();
    }
    let begin = Instant::now();
    let authority = start(dir.path());
    let took = begin.elapsed().as_secs_f64();
    assert_eq!(authority.status().live_entries, 1_000_000);
    row("restart with 1M live entries, until it can serve", took, " s", Target::AtMost(2.0));
    authority.stop();
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        measure("batches of 256 from 8 callers", 8, 256, 100_000.0).await;
        measure("64 callers, one each", 64, 1, 10_000.0).await;
        restart_with_a_million().await;
    });
}
