//! An authority in miniature and a network in memory, for tests of the driver.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Connection, OUTGOING_FRAMES, Upstream, UpstreamError};
use crate::replication::frames::{
    DeltaFrame, Heartbeat, Hello, SnapshotBegin, SnapshotEnd, SnapshotReason, ToServer, ToSubscriber, Welcome,
};
use crate::replication::signature::Statement;
use crate::replication::{Lineage, Signer};
use crate::revocation::ports::Pending;
use crate::revocation::verification::{RouteClass, VerificationPolicy, VersionedPolicy};
use crate::revocation::{
    Chain, Cutoff, Delta, Epoch, Fingerprint, Minute, PackedEntry, Policy, Revision, RevocationSet, Selector, SetKey,
    SetWriter, Shape, SnapshotBuilder, SnapshotEntry, SnapshotState, TestedClaim, UnixMillis,
};

pub(crate) use crate::replication::frames::WelcomeMode;

/// When the tests begin, on both clocks.
pub(crate) const BEGIN: UnixMillis = UnixMillis(1_767_225_600_000);

/// A set, its log and its signatures.
pub(crate) struct Authority {
    signer: Signer,
    key: SetKey,
    pub(crate) epoch: Epoch,
    policy: Policy,
    writer: SetWriter,
    chain: Chain,
    entries: BTreeMap<Fingerprint, PackedEntry>,
}

impl Authority {
    pub(crate) fn new(generation: u64, policy: Policy) -> Self {
        let key = SetKey::new([generation as u8; 16]);
        let floor = Minute::at(1).unwrap();
        let (writer, _) = RevocationSet::create(key.clone(), policy, floor);
        let epoch = Epoch { generation, id: [generation as u8; 16] };
        let signer = Signer::from_seed(&[9; 32]);
        Self { signer, key, epoch, policy, writer, chain: Chain::default(), entries: BTreeMap::new() }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.writer.revision()
    }

    /// Revokes `{sub}`: the frame that says so.
    pub(crate) fn revoke(&mut self, sub: &str) -> ToSubscriber {
        let selector = subject(sub);
        let entry = PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false);
        let fingerprint = self.key.fingerprint(&selector);
        self.commit(|delta| delta.upserts.push((fingerprint, entry)))
    }

    /// Revokes `{sub}` until `expiry`.
    pub(crate) fn revoke_until(&mut self, sub: &str, expiry: Minute) -> ToSubscriber {
        let entry = PackedEntry::new(Cutoff::UNBOUNDED, expiry, false);
        let fingerprint = self.key.fingerprint(&subject(sub));
        self.commit(|delta| delta.upserts.push((fingerprint, entry)))
    }

    /// Gives up what earlier epochs revoked.
    pub(crate) fn accept_loss(&mut self, generation: u64) -> ToSubscriber {
        self.policy.losses_accepted = generation;
        let policy = self.policy;
        self.commit(|delta| delta.policy = Some(policy))
    }

    /// Applies the next verification policy, of one class of routes.
    pub(crate) fn verify(&mut self, class: &str) -> ToSubscriber {
        let class = RouteClass {
            name: class.to_owned(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            scopes: Vec::new(),
            claims: Vec::new(),
        };
        self.verify_by(VerificationPolicy::new(Vec::new(), vec![class]).unwrap())
    }

    /// Applies this as the next verification policy.
    pub(crate) fn verify_by(&mut self, policy: VerificationPolicy) -> ToSubscriber {
        let version = self.writer.verification().map_or(1, |now| now.version + 1);
        self.commit(|delta| delta.verification = Some(Arc::new(VersionedPolicy { version, policy })))
    }

    /// Moves the expiry floor.
    pub(crate) fn expire(&mut self, floor: Minute) -> ToSubscriber {
        self.commit(|delta| delta.floor = floor)
    }

    /// Takes that back.
    pub(crate) fn reinstate(&mut self, sub: &str) -> ToSubscriber {
        let fingerprint = self.key.fingerprint(&subject(sub));
        self.commit(|delta| delta.removals.push(fingerprint))
    }

    fn commit(&mut self, change: impl FnOnce(&mut Delta)) -> ToSubscriber {
        let mut delta = Delta::empty(self.revision().next(), BEGIN, self.writer.floor());
        if self.entries.is_empty() && self.writer.shapes().is_empty() {
            delta.shapes_added = vec![subject("any").shape()];
        }
        change(&mut delta);
        delta.digest_after = self.writer.stage(&delta).unwrap();
        assert!(self.writer.apply(&delta).unwrap().rebuild.is_none(), "the tests' sets are small");
        self.entries.extend(delta.upserts.iter().copied());
        delta.removals.iter().for_each(|fingerprint| {
            self.entries.remove(fingerprint);
        });
        let canonical = Bytes::from(delta.encode());
        self.chain = self.chain.next(&canonical);
        let signature = Some(self.signer.sign_heartbeat(&self.statement(BEGIN)));
        ToSubscriber::Delta(DeltaFrame { canonical, signature, ack_now: true })
    }

    pub(crate) fn welcome(&self, mode: WelcomeMode) -> ToSubscriber {
        self.welcome_from(mode, UnixMillis(0))
    }

    /// Of a server that last heard the authority state this time.
    pub(crate) fn welcome_from(&self, mode: WelcomeMode, source_time: UnixMillis) -> ToSubscriber {
        ToSubscriber::Welcome(Box::new(Welcome {
            protocol: 1,
            epoch: self.epoch,
            lineage: Lineage::sign(&self.signer, self.epoch, Vec::new()),
            set_key: self.key.clone(),
            mode,
            head: self.revision(),
            oldest: Revision(1),
            source_time,
            source_age: Duration::ZERO,
            heartbeat_interval: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            policy: self.policy,
            path: Vec::new(),
            public_key: self.signer.public_key(),
        }))
    }

    pub(crate) fn heartbeat(&self, source_time: UnixMillis) -> ToSubscriber {
        let statement = self.statement(source_time);
        ToSubscriber::Heartbeat(Heartbeat {
            revision: statement.revision,
            source_time,
            digest: statement.digest,
            chain: statement.chain,
            floor: statement.floor,
            ack_now: false,
            signature: self.signer.sign_heartbeat(&statement),
        })
    }

    /// All frames of a snapshot of the present state.
    pub(crate) fn snapshot(&self, source_time: UnixMillis) -> Vec<ToSubscriber> {
        let shapes: Vec<Shape> = self.writer.shapes().to_vec();
        let floor = self.writer.floor();
        let state = SnapshotState {
            revision: self.revision(),
            floor,
            policy: self.policy,
            shapes,
            verification: self.writer.verification().cloned(),
        };
        let mut builder = SnapshotBuilder::new(&self.key, state);
        let mut chunks = Vec::new();
        for (fingerprint, entry) in &self.entries {
            let entry = SnapshotEntry { fingerprint: *fingerprint, entry: *entry, exceptions: Vec::new() };
            chunks.extend(builder.push(&entry).unwrap());
        }
        let built = builder.finish();
        chunks.extend(built.last);
        let statement = self.statement(source_time);
        assert_eq!(built.header.digest, statement.digest);
        let begin = SnapshotBegin {
            reason: SnapshotReason::Empty,
            id: 1,
            revision: statement.revision,
            entries: built.header.entries,
            chunks: built.header.chunks,
            header: built.header.encode().into(),
        };
        let end = SnapshotEnd {
            revision: statement.revision,
            digest: statement.digest,
            chain: statement.chain,
            sha256: built.sha256,
            signature: self.signer.sign_snapshot(&statement, &built.sha256),
            source_time,
        };
        let chunks = chunks.into_iter().map(ToSubscriber::SnapshotChunk);
        let begin = std::iter::once(ToSubscriber::SnapshotBegin(begin));
        begin.chain(chunks).chain([ToSubscriber::SnapshotEnd(end)]).collect()
    }

    fn statement(&self, source_time: UnixMillis) -> Statement {
        Statement {
            protocol: 1,
            epoch: self.epoch,
            revision: self.revision(),
            digest: self.writer.digest(),
            chain: self.chain,
            floor: self.writer.floor(),
            source_time,
        }
    }
}

fn subject(sub: &str) -> Selector {
    Selector::new([("sub", sub)], TestedClaim::Iat).unwrap()
}

/// A server that accepts connections in memory, or refuses them.
pub(crate) struct Server {
    name: String,
    refuses: AtomicBool,
    attempts: AtomicU64,
    accepted: mpsc::Sender<Peer>,
}

/// The server's end of a connection.
pub(crate) struct Peer {
    frames: mpsc::Receiver<ToServer>,
    send: mpsc::Sender<ToSubscriber>,
}

impl Server {
    pub(crate) fn new(name: &str) -> (Arc<Self>, mpsc::Receiver<Peer>) {
        let (accepted, peers) = mpsc::channel(8);
        let server = Self { name: name.to_owned(), refuses: false.into(), attempts: 0.into(), accepted };
        (Arc::new(server), peers)
    }

    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::SeqCst)
    }
}

impl Upstream for Server {
    fn name(&self) -> &str {
        &self.name
    }

    fn connect(&self) -> Pending<'_, Result<Connection, UpstreamError>> {
        Box::pin(async move {
            self.attempts.fetch_add(1, Ordering::SeqCst);
            if self.refuses.load(Ordering::SeqCst) {
                return Err(UpstreamError::Unreachable("connection refused".to_owned()));
            }
            let (outgoing, frames) = mpsc::channel(OUTGOING_FRAMES);
            let (send, incoming) = mpsc::channel(16);
            let gone = |_| UpstreamError::Unreachable("the test is over".to_owned());
            self.accepted.send(Peer { frames, send }).await.map_err(gone)?;
            Ok(Connection { outgoing, incoming: Box::pin(ReceiverStream::new(incoming).map(Ok)) })
        })
    }
}

impl Peer {
    /// What the subscriber says first.
    pub(crate) async fn hello(&mut self) -> Hello {
        match self.frames.recv().await {
            Some(ToServer::Hello(hello)) => *hello,
            other => panic!("instead of hello: {other:?}"),
        }
    }

    /// The next frame; `None` once the subscriber sends no more.
    pub(crate) async fn receive(&mut self) -> Option<ToServer> {
        self.frames.recv().await
    }

    pub(crate) async fn send(&self, frames: impl IntoIterator<Item = ToSubscriber>) {
        for frame in frames {
            self.send.send(frame).await.expect("the subscriber went away");
        }
    }

    /// Whether the subscriber still listens.
    pub(crate) fn is_heard(&self) -> bool {
        !self.send.is_closed()
    }
}
