//! Keeps what is in memory from leaving it through the kernel: secrets, the set key, identifiers.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on no core dump of this process is written, and no other process of its user may read its memory. Somebody who
/// is root still can.
pub(super) fn forbid_dumps() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be forbidden: one would hold keys and identifiers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_leaves_no_core_dump() {
        forbid_dumps();
        assert_eq!(rustix::process::dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
