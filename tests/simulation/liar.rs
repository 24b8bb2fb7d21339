//! A sender that speaks the protocol and does not tell the truth.

use bytes::Bytes;
use prost::Message;
use rescind::replication::frames::ToSubscriber;
use rescind::replication::{FrameEncoder as _, Random};
use rescind::revocation::Digest;
use rescind::wire::pb;
use rescind::wire::replication::{GRPC_PREFIX_BYTES, GrpcEncoder};

use super::link::chance;

/// In which way it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Heartbeats state another digest.
    Digest,
    /// Deltas are left out.
    Gap,
    /// Earlier deltas come again.
    Back,
    /// The greeting names another epoch.
    Epoch,
    /// Signatures do not verify.
    Signature,
    /// No deltas any more, and the same heartbeat for ever.
    Frozen,
}

/// One such sender.
pub struct Liar {
    lie: Lie,
    /// An earlier delta, or the heartbeat.
    kept: Option<Vec<u8>>,
}

impl Liar {
    pub fn new(random: &mut Random) -> Self {
        let lies = [Lie::Digest, Lie::Gap, Lie::Back, Lie::Epoch, Lie::Signature, Lie::Frozen];
        Self { lie: lies[(random.next_u64() % 6) as usize], kept: None }
    }

    /// What it sends instead of `bytes`; `None`: the same.
    pub fn twist(&mut self, bytes: &[u8], random: &mut Random) -> Option<Vec<Vec<u8>>> {
        let message = pb::SubscribeResponse::decode(&bytes[GRPC_PREFIX_BYTES..]).unwrap();
        let frame = ToSubscriber::try_from(message).unwrap();
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
            (Lie::Signature, ToSubscriber::Heartbeat(mut heartbeat)) => {
                heartbeat.signature.0[(random.next_u64() % 64) as usize] ^= 1;
                Some(vec![encoded(&ToSubscriber::Heartbeat(heartbeat))])
            }
            (Lie::Signature, ToSubscriber::SnapshotEnd(mut end)) => {
                end.signature.0[(random.next_u64() % 64) as usize] ^= 1;
                Some(vec![encoded(&ToSubscriber::SnapshotEnd(end))])
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
}

fn encoded(frame: &ToSubscriber) -> Vec<u8> {
    let bytes: Bytes = GrpcEncoder.encode(frame);
    bytes.to_vec()
}
