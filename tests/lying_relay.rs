//! An agent behind a relay that lies. Each lie ends that connection and nothing else: it is counted and logged, the agent
//! goes on with what it holds and elsewhere, and whoever follows the agent or the server is fed on.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::agent::Agent;
use common::caller::{Caller, Outcome, claims, revocation};
use common::liar::{Liar, Lie};
use common::resident_bytes;
use common::server::Server;
use parking_lot::Mutex;
use rescind::client::Client;
use rescind::revocation::{
    CHUNK_BYTES_MAX, Cutoff, Delta, Digest, Fingerprint, Minute, PackedEntry, Policy, Revision, SnapshotChunk,
    SnapshotHeader, SnapshotState,
};
use rescind::wire::pb::subscribe_response::Frame;
use rescind::wire::{self, pb};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(20);
/// What an agent may grow by while it is lied to, in bytes: a chunk or two, and what an allocator keeps.
const GROWTH_MAX: u64 = 48 << 20;

/// A server, a relay that lies, an agent behind it, and two who follow server and agent.
struct Scene {
    server: Server,
    liar: Liar,
    agent: Agent,
    clients: [Client; 2],
    memory: u64,
}

impl Scene {
    /// All of them ready, with one revocation made; nothing was lied about yet. The agent may go on at the server itself.
    async fn new(elsewhere: bool) -> Self {
        let server = Server::start();
        let next = elsewhere.then(|| server.url());
        Self::following(server, next).await
    }

    /// The same with the next upstream of the agent given.
    async fn following(server: Server, next: Option<String>) -> Self {
        Caller::new(server.listen).revoke(vec![revocation(&[("jti", "before")])]).await.unwrap();
        let liar = Liar::before(&format!("http://{}", server.listen));
        let upstreams: Vec<&str> = std::iter::once(liar.url.as_str()).chain(next.as_deref()).collect();
        let mut agent = Agent::prepare("agent", &upstreams, &[]);
        agent = tokio::task::spawn_blocking(move || {
            agent.start();
            agent.wait_live();
            agent
        })
        .await
        .unwrap();
        let clients = [server.url(), agent.url.clone()].map(|url| common::guard::client([url]).connect().unwrap());
        for client in &clients {
            client.ready(LIMIT).await.unwrap();
        }
        let memory = resident_bytes(agent.pid());
        Self { server, liar, agent, clients, memory }
    }

    async fn revoke(&self, jti: &str) -> pb::Position {
        Caller::new(self.server.listen).revoke(vec![revocation(&[("jti", jti)])]).await.unwrap().position.unwrap()
    }

    /// How often the agent gave a connection up for this reason.
    fn breaks(&self, reason: &str) -> f64 {
        self.agent.metric(&format!("rescind_upstream_breaks_total{{reason=\"{reason}\"}}"))
    }

    /// Holds that the lies were noticed, counted so often under `reason` and logged with `words`; that the agent has all
    /// that was and is revoked, and nothing else; and that everybody is served on.
    async fn assert_contained(mut self, reason: &str, times: f64, words: &[&str]) -> Agent {
        let noticed = async {
            while !self.liar.lies.are_told() || self.breaks(reason) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, noticed).await;
        assert!(waited.is_ok(), "not noticed as {reason}:\n{}", self.agent.log_text());
        let position = wire::position(&self.revoke("after").await).unwrap();
        for client in &self.clients {
            client.reached(position, LIMIT).await.unwrap();
        }
        let caller = Caller::new(self.agent.listen.unwrap());
        for (jti, outcome) in
            [("before", Outcome::Revoked), ("after", Outcome::Revoked), ("other", Outcome::NotRevoked)]
        {
            assert_eq!(caller.check(claims(&json!({ "jti": jti }))).await.unwrap(), outcome, "{jti}");
        }
        // A machine that is starved falls silent more often.
        assert!(self.breaks(reason) == times || reason == "silent", "{reason}: {}", self.breaks(reason));
        let log = self.agent.log_text();
        for words in words {
            assert!(log.contains(words), "{words:?} is not in\n{log}");
        }
        let grown = resident_bytes(self.agent.pid()).saturating_sub(self.memory);
        assert!(grown <= GROWTH_MAX, "the agent grew by {grown} B");
        assert!(self.agent.is_alive() && self.server.is_alive());
        assert!(!log.contains("panicked") && !self.server.log_text().contains("panicked"), "{log}");
        self.agent
    }
}

fn with_other_digest(delta: &pb::Delta) -> pb::Delta {
    let mut canonical = delta.canonical.to_vec();
    *canonical.last_mut().expect("no delta is empty") ^= 1;
    pb::Delta { canonical: canonical.into(), ..delta.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_digest_makes_the_agent_diverge_and_resync() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| {
        let Frame::Delta(delta) = frame else { return None };
        Some(Lie::Instead(vec![Frame::Delta(with_other_digest(delta))]))
    });
    scene.revoke("lied about").await;
    let agent = scene.assert_contained("diverged", 1.0, &["replica alarm", "diverged: "]).await;
    assert_eq!(agent.metric("rescind_divergences_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_makes_the_agent_diverge_and_resync() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| matches!(frame, Frame::Delta(_)).then(|| Lie::Instead(Vec::new())));
    scene.revoke("left out").await;
    scene.revoke("the next one").await;
    let agent = scene.assert_contained("diverged", 1.0, &["replica alarm", "came where"]).await;
    assert_eq!(agent.metric("rescind_divergences_total"), 1.0);
}

/// An earlier revision again, with another content.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_comes_again_otherwise_makes_the_agent_diverge_and_resync() {
    let scene = Scene::new(true).await;
    let earlier = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&earlier);
    scene.liar.lies.push(move |frame| {
        let Frame::Delta(delta) = frame else { return None };
        *kept.lock() = Some(with_other_digest(delta));
        Some(Lie::Instead(vec![frame.clone()]))
    });
    scene.liar.lies.push(move |frame| {
        let Frame::Delta(_) = frame else { return None };
        Some(Lie::Instead(vec![frame.clone(), Frame::Delta(earlier.lock().take()?)]))
    });
    scene.revoke("one").await;
    scene.revoke("another").await;
    let agent = scene.assert_contained("diverged", 1.0, &["replica alarm", "another digest"]).await;
    assert_eq!(agent.metric("rescind_divergences_total"), 1.0);
}

/// Ends the connection, and edits the Welcome of the next ones.
fn forge_welcome(scene: &Scene, times: u32, edit: impl Fn(&mut pb::Welcome) + Clone + Send + 'static) {
    scene.liar.lies.push(|frame| matches!(frame, Frame::Heartbeat(_)).then_some(Lie::Cut));
    for _ in 0..times {
        let edit = edit.clone();
        scene.liar.lies.push(move |frame| {
            let Frame::Welcome(welcome) = frame else { return None };
            let mut welcome = welcome.clone();
            edit(&mut welcome);
            Some(Lie::Instead(vec![Frame::Welcome(welcome)]))
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_behind_what_is_held_is_refused() {
    let scene = Scene::new(false).await;
    forge_welcome(&scene, 2, |welcome| welcome.head_revision = 0);
    scene.assert_contained("refused", 2.0, &["lies below the applied"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_epoch_of_the_same_generation_is_refused_with_an_alarm() {
    let scene = Scene::new(false).await;
    forge_welcome(&scene, 2, |welcome| {
        welcome.epoch.as_mut().unwrap().id = vec![0xee; 16];
    });
    scene.assert_contained("refused", 2.0, &["replica alarm", "two authorities"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_epoch_that_was_left_behind_is_refused_with_an_alarm() {
    let scene = Scene::new(false).await;
    forge_welcome(&scene, 2, |welcome| {
        welcome.epoch.as_mut().unwrap().generation -= 1;
    });
    scene.assert_contained("refused", 2.0, &["replica alarm", "older than"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_epoch_that_nobody_signed_for_is_refused() {
    let scene = Scene::new(false).await;
    forge_welcome(&scene, 2, |welcome| {
        welcome.epoch.as_mut().unwrap().generation += 1;
        welcome.mode = pb::welcome::Mode::Snapshot.into();
    });
    scene.assert_contained("refused", 2.0, &["where its epoch came from has a bad signature"]).await;
}

/// Nothing forged: it speaks for itself, and was taken for an upstream by mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_authority_is_refused_with_an_alarm() {
    let stranger = Server::start();
    let scene = Scene::following(Server::start(), Some(stranger.url())).await;
    scene.liar.lies.push(|frame| matches!(frame, Frame::Heartbeat(_)).then_some(Lie::Cut));
    scene.assert_contained("refused", 1.0, &["replica alarm", "instead of the pinned"]).await;
}

/// The beginning of a snapshot that states so many entries, and so many chunks.
fn snapshot_begin(entries: u64, chunks: u32) -> Frame {
    let floor = Minute::at(1).unwrap();
    let state = SnapshotState {
        revision: Revision(9),
        floor,
        policy: Policy::default(),
        shapes: Vec::new(),
        verification: None,
    };
    let header = SnapshotHeader { state, entries, chunks, digest: Digest::default() };
    Frame::SnapshotBegin(pb::SnapshotBegin {
        reason: pb::snapshot_begin::Reason::Compacted.into(),
        id: 7,
        revision: 9,
        entries,
        chunks,
        header: header.encode(),
    })
}

fn chunk(index: u32, bytes: Bytes) -> Frame {
    let SnapshotChunk { index, crc32c, bytes } = SnapshotChunk::new(index, bytes);
    Frame::SnapshotChunk(pb::SnapshotChunk { index, crc32c, entries: bytes })
}

/// A chunk of one entry, sound and in order.
fn sound_chunk(index: u64) -> Frame {
    let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false).bits().to_le_bytes();
    let bytes = [&Fingerprint([index + 1, 0]).to_bytes()[..], &entry].concat();
    chunk(index as u32, bytes.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversized_chunk_is_no_frame() {
    // Just too large for a chunk; and larger than any message.
    for bytes in [CHUNK_BYTES_MAX + 1, 20 << 20] {
        let scene = Scene::new(true).await;
        scene.liar.lies.push(move |frame| {
            let Frame::Heartbeat(_) = frame else { return None };
            Some(Lie::Instead(vec![snapshot_begin(1_000_000, 1000), chunk(0, vec![7; bytes].into())]))
        });
        scene.assert_contained("malformed", 1.0, &["not a frame: "]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_snapshot_is_given_up_at_what_it_stated() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| {
        let Frame::Heartbeat(_) = frame else { return None };
        Some(Lie::Forever(vec![snapshot_begin(1000, 1000)], Box::new(sound_chunk)))
    });
    scene.assert_contained("resync_failed", 1.0, &["1001 chunks instead of the 1000 stated"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_snapshot_of_nothing_is_given_up_at_once() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| {
        let Frame::Heartbeat(_) = frame else { return None };
        let hollow = |index| chunk(index as u32, Bytes::new());
        Some(Lie::Forever(vec![snapshot_begin(4_000_000, 4_000_000)], Box::new(hollow)))
    });
    scene.assert_contained("resync_failed", 1.0, &["a chunk without entries"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_larger_than_may_be_held_is_refused_before_there_is_room_for_it() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| {
        let Frame::Heartbeat(_) = frame else { return None };
        Some(Lie::Instead(vec![snapshot_begin(u64::MAX, 1000)]))
    });
    scene.assert_contained("over_limit", 1.0, &["replica alarm", "at most 64000000 may be held here"]).await;
}

/// Each follows the one before; none has a signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_without_end_that_nobody_signed_for_are_given_up() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| {
        let Frame::Delta(delta) = frame else { return None };
        let Delta { revision, source_time, floor, .. } = Delta::decode(&delta.canonical).unwrap();
        let invented = move |turn| {
            let canonical = Delta::empty(Revision(revision.0 + turn), source_time, floor).encode().into();
            Frame::Delta(pb::Delta { canonical, ..pb::Delta::default() })
        };
        Some(Lie::Forever(Vec::new(), Box::new(invented)))
    });
    scene.revoke("lied about").await;
    scene.assert_contained("unsigned", 1.0, &["the authority did not sign"]).await;
}

/// What was said last, over and over: nobody becomes fresher by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_without_end_or_data_are_no_word_of_the_authority() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| {
        let Frame::Heartbeat(word) = frame else { return None };
        let word = Frame::Heartbeat(word.clone());
        Some(Lie::Forever(vec![word.clone()], Box::new(move |_| word.clone())))
    });
    scene.assert_contained("moved", 1.0, &["another server has heard the authority later"]).await;
}

/// A true word, about a revision that the relay keeps for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_about_changes_that_are_withheld_make_the_agent_diverge() {
    let scene = Scene::new(true).await;
    scene.liar.lies.push(|frame| matches!(frame, Frame::Delta(_)).then(|| Lie::Instead(Vec::new())));
    scene.revoke("withheld").await;
    let agent = scene.assert_contained("diverged", 1.0, &["replica alarm", "came where"]).await;
    assert_eq!(agent.metric("rescind_divergences_total"), 1.0);
}
