//! What the commit thread hands on for subscribers. It never waits for them.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::{Hub, Image, Published};
use crate::revocation::Revision;

/// Takes committed revisions and snapshots on, without blocking.
pub trait Publish: Send + Sync {
    /// A revision is in force.
    fn publish(&self, published: Published);
    /// A newer snapshot can be sent to joiners.
    fn offer_snapshot(&self, image: Arc<Image>);
    /// The journal was pruned: this is the first revision that it still has.
    fn pruned(&self, oldest: Revision);
    /// What the commit of a revision took.
    fn measured(&self, commit: Commit) {
        let _ = commit;
    }
}

/// What one commit took.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// From the append to the answer of the disk.
    pub took: Duration,
    /// The requests in it.
    pub requests: usize,
    /// The size of its record's delta, in bytes.
    pub delta_bytes: usize,
}

impl Publish for Hub {
    fn publish(&self, published: Published) {
        if let Err(error) = self.append(published) {
            tracing::error!(%error, "a revision was not published; subscribers wait until a restart");
        }
    }

    fn offer_snapshot(&self, image: Arc<Image>) {
        Hub::offer_snapshot(self, image);
    }

    fn pruned(&self, oldest: Revision) {
        self.set_oldest(oldest);
    }
}
