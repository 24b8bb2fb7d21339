//! A sender that speaks the protocol and does not tell the truth: a relay, say, which holds the set key.

mod forge;

use bytes::Bytes;
use prost::Message;
use rescind::replication::frames::{Heartbeat, ToSubscriber};
use rescind::replication::{FrameEncoder as _, Random};
use rescind::revocation::{Ancestor, Digest, Epoch, Revision, SnapshotChunk};
use rescind::wire::pb;
use rescind::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};

use super::link::chance;
use forge::{Forger, Forgery};

/// In which way it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Heartbeats state another digest.
    Digest,
    /// Deltas are left out.
    Gap,
    /// Earlier deltas come again.
    Back,
    /// The greeting names another epoch.
    Epoch,
    /// The greeting says that the epoch goes on from all of the ones before it.
    Lineage,
    /// Signatures do not verify.
    Signature,
    /// No deltas any more, and the same heartbeat for ever.
    Frozen,
    /// No heartbeats, and deltas without signatures.
    Withheld,
    /// Heartbeats and the greeting state a later time.
    Fresher,
    /// A snapshot that never ends.
    Endless,
    /// What another subscriber was sent earlier, perhaps in an earlier epoch, word by word.
    Replay,
    /// Deltas that fit, with all digests right, that the authority never made.
    Forged(Forgery),
}

/// One such sender.
pub struct Liar {
    lie: Lie,
    /// An earlier delta, or heartbeat, or chunk.
    kept: Option<Vec<u8>>,
    chunks: u32,
    /// What is replayed, the next frame last.
    tape: Vec<Vec<u8>>,
    forger: Forger,
}

impl Liar {
    pub fn new(tape: &[Vec<u8>], random: &mut Random) -> Self {
        let forged = |random: &mut Random| {
            let forgeries = [Forgery::Invent, Forgery::Remove, Forgery::Weaken, Forgery::Idle, Forgery::Drop];
            Lie::Forged(forgeries[(random.next_u64() % 5) as usize])
        };
        let plain = [
            Lie::Digest,
            Lie::Gap,
            Lie::Back,
            Lie::Epoch,
            Lie::Lineage,
            Lie::Signature,
            Lie::Frozen,
            Lie::Withheld,
            Lie::Fresher,
            Lie::Endless,
            Lie::Replay,
        ];
        let lie = match (random.next_u64() % 17) as usize {
            index @ 0..11 => plain[index],
            _ => forged(random),
        };
        let tape = tape.iter().rev().cloned().collect();
        Self { lie, kept: None, chunks: 0, tape, forger: Forger::new(random) }
    }

    /// What it sends instead of `bytes`; `None`: the same.
    pub fn twist(&mut self, bytes: &[u8], random: &mut Random) -> Option<Vec<Vec<u8>>> {
        let message = pb::SubscribeResponse::decode(&bytes[GRPC_PREFIX_BYTES..]).unwrap();
        let frame = ToSubscriber::try_from(message).unwrap();
        match self.lie {
            Lie::Forged(forgery) => {
                let frames = self.forger.twist(forgery, frame, random)?;
                Some(frames.iter().map(encoded).collect())
            }
            Lie::Replay => self.replay(),
            Lie::Endless => self.go_on_for_ever(frame),
            Lie::Fresher => fresher(frame).map(|frame| vec![encoded(&frame)]),
            _ => self.distort(bytes, frame, random),
        }
    }

    fn distort(&mut self, bytes: &[u8], frame: ToSubscriber, random: &mut Random) -> Option<Vec<Vec<u8>>> {
        match (self.lie, frame) {
            (Lie::Digest, ToSubscriber::Heartbeat(mut heartbeat)) => {
                heartbeat.digest = Digest::from_bytes(random.next_u64().to_le_bytes().repeat(2).try_into().unwrap());
                Some(vec![encoded(&ToSubscriber::Heartbeat(heartbeat))])
            }
            (Lie::Gap, ToSubscriber::Delta(_)) if chance(random, 0.2) => Some(Vec::new()),
            (Lie::Back, ToSubscriber::Delta(_)) => {
                let sent = [bytes.to_vec()].into_iter().chain(self.kept.clone()).collect();
                self.kept.get_or_insert_with(|| bytes.to_vec());
                Some(sent)
            }
            (Lie::Epoch, ToSubscriber::Welcome(mut welcome)) => {
                match random.next_u64() % 3 {
                    0 => welcome.epoch.generation -= 1,
                    1 => welcome.epoch.generation += 1,
                    _ => welcome.epoch.id[3] ^= 1,
                }
                Some(vec![encoded(&ToSubscriber::Welcome(welcome))])
            }
            (Lie::Lineage, ToSubscriber::Welcome(mut welcome)) => {
                let (ancestors, id) = (&mut welcome.lineage.ancestors, welcome.epoch.id);
                if ancestors.is_empty() {
                    let epoch = Epoch { generation: welcome.epoch.generation - 1, id };
                    ancestors.push(Ancestor { epoch, last: Revision(0) });
                }
                ancestors.iter_mut().for_each(|ancestor| ancestor.last = Revision(u64::MAX));
                Some(vec![encoded(&ToSubscriber::Welcome(welcome))])
            }
            (Lie::Signature, ToSubscriber::Heartbeat(mut heartbeat)) => {
                heartbeat.signature.0[(random.next_u64() % 64) as usize] ^= 1;
                Some(vec![encoded(&ToSubscriber::Heartbeat(heartbeat))])
            }
            (Lie::Signature, ToSubscriber::SnapshotEnd(mut end)) => {
                end.signature.0[(random.next_u64() % 64) as usize] ^= 1;
                Some(vec![encoded(&ToSubscriber::SnapshotEnd(end))])
            }
            (Lie::Signature, ToSubscriber::Delta(mut delta)) if delta.signature.is_some() => {
                let flip = (random.next_u64() % 64) as usize;
                delta.signature.iter_mut().for_each(|signature| signature.0[flip] ^= 1);
                Some(vec![encoded(&ToSubscriber::Delta(delta))])
            }
            (Lie::Withheld, ToSubscriber::Heartbeat(_)) => Some(Vec::new()),
            (Lie::Withheld, ToSubscriber::Delta(mut delta)) => {
                delta.signature = None;
                Some(vec![encoded(&ToSubscriber::Delta(delta))])
            }
            (Lie::Frozen, ToSubscriber::Delta(_)) if self.kept.is_some() => Some(Vec::new()),
            (Lie::Frozen, ToSubscriber::Heartbeat(_)) => match &self.kept {
                Some(kept) => Some(vec![kept.clone()]),
                None => {
                    self.kept = Some(bytes.to_vec());
                    None
                }
            },
            _ => None,
        }
    }

    /// One frame of the tape for each of the subscription; then the last heartbeat of it, for ever.
    fn replay(&mut self) -> Option<Vec<Vec<u8>>> {
        if let Some(next) = self.tape.pop() {
            self.kept = Some(next.clone());
            return Some(vec![next]);
        }
        Some(vec![self.kept.clone()?])
    }

    /// Instead of the end, and of all that follows it, the last chunk comes again under the next number.
    fn go_on_for_ever(&mut self, frame: ToSubscriber) -> Option<Vec<Vec<u8>>> {
        if let ToSubscriber::SnapshotChunk(chunk) = frame {
            self.chunks = chunk.index + 1;
            self.kept = Some(encoded(&ToSubscriber::SnapshotChunk(chunk)));
            return None;
        }
        let kept = self.kept.as_ref()?;
        let message = pb::SubscribeResponse::decode(&kept[GRPC_PREFIX_BYTES..]).unwrap();
        let Ok(ToSubscriber::SnapshotChunk(chunk)) = ToSubscriber::try_from(message) else { return None };
        let again = SnapshotChunk { index: self.chunks, ..chunk };
        self.chunks += 1;
        Some(vec![encoded(&ToSubscriber::SnapshotChunk(again))])
    }
}

/// As if it had been said 10 s later.
fn fresher(frame: ToSubscriber) -> Option<ToSubscriber> {
    let later = |time: rescind::revocation::UnixMillis| rescind::revocation::UnixMillis(time.0 + 10_000);
    match frame {
        ToSubscriber::Welcome(mut welcome) => {
            (welcome.source_time, welcome.source_age) = (later(welcome.source_time), std::time::Duration::ZERO);
            Some(ToSubscriber::Welcome(welcome))
        }
        ToSubscriber::Heartbeat(heartbeat) => {
            let source_time = later(heartbeat.source_time);
            Some(ToSubscriber::Heartbeat(Heartbeat { source_time, ..heartbeat }))
        }
        _ => None,
    }
}

fn encoded(frame: &ToSubscriber) -> Vec<u8> {
    let bytes: Bytes = GrpcEncoder.encode(frame);
    bytes.to_vec()
}
