//! Whether a subscriber still may do what it does: asked again whenever principals or credentials change, when its credential
//! expires, and every few seconds if it is known by a token, which may be revoked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::replication::frames::{Hello, Role};
use crate::revocation::grant;
use crate::security::access::{Denial, Identity};
use crate::security::call::{Call, Need};
use crate::surface::asker::Asker;
use crate::surface::door::Door;
use crate::surface::peer::Peer;

/// The longest wait for an expiry before the wall clock is looked at again: it may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How often it is asked whether a subscriber's token was revoked: it costs a check.
const LOOK_AT_TOKEN: Duration = Duration::from_secs(5);
/// Added to a wait, so that the expiry has passed when it ends.
const ROUNDING: Duration = Duration::from_millis(1);

/// The right of one subscriber. In a box, because most of the time nothing happens to it.
pub(super) struct Standing {
    identity: Arc<Identity>,
    door: Door,
    peer: Peer,
    need: Need,
    changes: watch::Receiver<u64>,
    looked_at: bool,
}

impl Standing {
    /// `None` when nobody is asked who he is.
    pub(super) fn of(asker: &Asker) -> Option<Box<Self>> {
        let (identity, door) = asker.identity()?;
        let changes = door.access()?.changes();
        let (identity, door, peer) = (Arc::clone(identity), door.clone(), asker.peer());
        // It may have changed since it was let in.
        Some(Box::new(Self { identity, door, peer, need: Call::Subscribe.need(), changes, looked_at: false }))
    }

    /// The principal's name.
    pub(super) fn principal(&self) -> Arc<str> {
        self.identity.name().into()
    }

    /// Looks whether it may say this Hello.
    ///
    /// # Errors
    /// When not; it is noted.
    pub(super) fn handle_hello(&mut self, hello: &Hello) -> Result<(), String> {
        self.need = match hello.role {
            Role::Leaf => Call::Subscribe.need(),
            Role::Relay => Need::Role(grant::Role::Relay),
        };
        match self.need.allows(self.identity.grant().roles) {
            true => Ok(()),
            false => Err(self.refuse(Denial::role(&self.identity, self.need))),
        }
    }

    /// Its id is another principal's; why it must go.
    pub(super) fn refuse_member(&self) -> String {
        self.refuse(Denial::member(&self.identity))
    }

    /// Why it must go, if it must.
    pub(super) fn lost(&mut self) -> Option<String> {
        let access = self.door.access()?;
        let is_over = access.remaining(&self.identity).is_some_and(|left| left.is_zero());
        let is_changed = self.changes.has_changed().unwrap_or(true);
        if self.looked_at && !is_over && !is_changed && !self.identity.is_by_token() {
            return None;
        }
        self.looked_at = true;
        self.changes.mark_unchanged();
        match access.renew(&self.identity, self.need) {
            Ok(identity) => {
                self.identity = identity;
                None
            }
            Err(denial) => Some(self.refuse(denial)),
        }
    }

    /// Resolves when it may have been lost.
    pub(super) async fn changed(&mut self) {
        let left = self.door.access().and_then(|access| access.remaining(&self.identity));
        let look_again = if self.identity.is_by_token() { LOOK_AT_TOKEN } else { LOOK_AGAIN };
        let expiry = async {
            match left {
                Some(left) => sleep(left.min(look_again) + ROUNDING).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Fails only once the access is gone, which the door keeps.
            _ = self.changes.changed() => self.looked_at = false,
            () = expiry => {}
        }
    }

    fn refuse(&self, denial: Denial) -> String {
        self.door.refuse(denial.of(Call::Subscribe), self.peer).to_string()
    }
}
