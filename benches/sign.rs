//! What a signature costs: the authority makes one for each revision, a replica verifies one for each that comes live.

#![allow(clippy::print_stdout, reason = "a bench prints")]

mod table;

use std::hint::black_box;

use rescind::replication::Signer;
use rescind::replication::signature::Statement;
use rescind::revocation::{Chain, Digest, Epoch, Minute, Revision, UnixMillis};
use table::{Target, nanos, row};

const CALLS: usize = 2000;

fn main() {
    let signer = Signer::from_seed(&[1; 32]);
    let key = signer.public_key();
    let statements: Vec<Statement> = (0..CALLS as u64).map(statement).collect();
    let sign = nanos(CALLS, || {
        for statement in &statements {
            black_box(signer.sign_heartbeat(statement));
        }
    });
    let signatures: Vec<_> = statements.iter().map(|statement| signer.sign_heartbeat(statement)).collect();
    let verify = nanos(CALLS, || {
        for (statement, signature) in statements.iter().zip(&signatures) {
            key.verify_heartbeat(statement, signature).expect("a signature just made");
        }
    });
    row("sign a delta or a heartbeat (Ed25519)", sign / 1000.0, " us", Target::None);
    row("verify it", verify / 1000.0, " us", Target::None);
}

fn statement(revision: u64) -> Statement {
    Statement {
        protocol: 1,
        epoch: Epoch { generation: 1, id: [2; 16] },
        revision: Revision(revision),
        digest: Digest::from_bytes([3; 16]),
        chain: Chain([4; 32]),
        floor: Minute::from_bits(5),
        source_time: UnixMillis(revision),
    }
}
