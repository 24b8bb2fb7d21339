//! API credentials: kept by the commit thread as the journal says, found by everybody in memory.
//!
//! Compares no secrets and judges nobody: that is for whoever asks.
//!
//! # Invariants
//! - K1. What is kept is a function of the log: a credential goes when a record revokes it, or when the expiry floor, which
//!   only records move, has passed its expiry.
//! - K2. A change can be seen by every thread before it is answered.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use super::commit::Work;
use super::serve::{Authority, gone};
use crate::journal::{CredentialAction, CredentialChange};
use crate::revocation::ports::{
    CREDENTIALS_MAX, Caller, Credential, CredentialError, CredentialId, Credentials, Pending, Violation, WriteError,
};
use crate::revocation::{Minute, Position, UnixSeconds};

/// Credentials by their ids.
pub type Kept = HashMap<CredentialId, Arc<Credential>>;

/// Where the commit thread sends the answer to a change.
pub type Answer = oneshot::Sender<Result<Position, CredentialError>>;

/// What is kept, as of the last revision.
#[derive(Debug, Default)]
pub struct CredentialTable {
    kept: Arc<Kept>,
    /// The earliest expiry of any that is kept.
    next_expiry: Option<UnixSeconds>,
    view: Arc<CredentialView>,
    /// Whether the view follows. While the journal is replayed nobody looks, and a copy for each record would take long.
    is_served: bool,
}

/// What other threads see: a map that is swapped, and how often it was.
#[derive(Debug)]
pub struct CredentialView {
    kept: ArcSwap<Kept>,
    generation: watch::Sender<u64>,
}

impl Default for CredentialView {
    fn default() -> Self {
        Self { kept: ArcSwap::default(), generation: watch::Sender::new(0) }
    }
}

impl CredentialView {
    /// The credential of this id, if it is kept. Takes no lock.
    #[must_use]
    pub fn find(&self, id: CredentialId) -> Option<Credential> {
        self.kept.load().get(&id).map(|credential| Credential::clone(credential))
    }

    /// All that are kept, by name and id.
    #[must_use]
    pub fn list(&self) -> Vec<Credential> {
        let mut all: Vec<Credential> =
            self.kept.load().values().map(|credential| Credential::clone(credential)).collect();
        all.sort_unstable_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        all
    }

    /// Changes whenever credentials come or go. What is found afterwards is at least as new.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

impl CredentialTable {
    /// What a snapshot holds.
    #[must_use]
    pub fn of(credentials: Vec<Credential>) -> Self {
        let kept = credentials.into_iter().map(|credential| (credential.id, Arc::new(credential))).collect();
        let mut table = Self { kept: Arc::new(kept), ..Self::default() };
        table.next_expiry = table.earliest();
        table
    }

    /// What is kept.
    #[must_use]
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// What other threads look at. It is empty until [`CredentialTable::serve`].
    #[must_use]
    pub fn view(&self) -> &Arc<CredentialView> {
        &self.view
    }

    /// Lets the view follow.
    pub fn serve(&mut self) {
        self.is_served = true;
        self.publish();
    }

    /// Takes a change in force that is durable, and drops what expired by `floor`.
    pub fn apply(&mut self, change: Option<&CredentialChange>, floor: Minute) {
        let mut changed = false;
        if let Some(change) = change {
            let kept = Arc::make_mut(&mut self.kept);
            match &change.action {
                CredentialAction::Create(credential) => {
                    kept.insert(credential.id, Arc::new(Credential::clone(credential)));
                    self.next_expiry = match (self.next_expiry, credential.expires_at) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                CredentialAction::Revoke(ids) => ids.iter().for_each(|id| drop(kept.remove(id))),
            }
            changed = true;
        }
        if self.next_expiry.is_some_and(|at| is_over(at, floor)) {
            Arc::make_mut(&mut self.kept)
                .retain(|_, credential| !credential.expires_at.is_some_and(|at| is_over(at, floor)));
            self.next_expiry = self.earliest();
            changed = true;
        }
        if changed && self.is_served {
            self.publish();
        }
    }

    /// Whether a change may be made once `floor` is in force.
    ///
    /// # Errors
    /// Says why not.
    pub fn admit(&self, action: &CredentialAction, floor: Minute) -> Result<(), CredentialError> {
        match action {
            CredentialAction::Create(credential) => {
                if self.kept.contains_key(&credential.id) {
                    let description = "a credential has this id already; try again with another".into();
                    return Err(WriteError::Invalid(vec![Violation { field: "id".into(), description }]).into());
                }
                let is_live = |kept: &&Arc<Credential>| !kept.expires_at.is_some_and(|at| is_over(at, floor));
                let is_full =
                    self.kept.len() >= CREDENTIALS_MAX && self.kept.values().filter(is_live).count() >= CREDENTIALS_MAX;
                if is_full { Err(CredentialError::TooMany) } else { Ok(()) }
            }
            CredentialAction::Revoke(ids) if ids.iter().all(|id| self.kept.contains_key(id)) => Ok(()),
            CredentialAction::Revoke(_) => Err(CredentialError::NotFound),
        }
    }

    fn publish(&self) {
        self.view.kept.store(Arc::clone(&self.kept));
        self.view.generation.send_modify(|generation| *generation += 1);
    }

    fn earliest(&self) -> Option<UnixSeconds> {
        self.kept.values().filter_map(|credential| credential.expires_at).min()
    }
}

/// Whether what expires at `at` is past in any clock that the floor allows for.
fn is_over(at: UnixSeconds, floor: Minute) -> bool {
    floor.seconds().is_some_and(|floor| at <= floor)
}

impl Authority {
    /// Changes whenever credentials come or go: what is let in on the strength of one is to be looked at again.
    #[must_use]
    pub fn credential_changes(&self) -> watch::Receiver<u64> {
        self.credentials.changes()
    }

    async fn change_credentials(&self, caller: Caller, action: CredentialAction) -> Result<Position, CredentialError> {
        let _room = self.room(1)?;
        let (answer, decided) = oneshot::channel();
        self.enqueue(Work::Credentials(caller, action, answer))?;
        decided.await.map_err(|_| gone())?
    }
}

impl Credentials for Authority {
    fn find(&self, id: CredentialId) -> Option<Credential> {
        self.credentials.find(id)
    }

    fn changes(&self) -> u64 {
        *self.credentials.changes().borrow()
    }

    fn list(&self) -> Vec<Credential> {
        self.credentials.list()
    }

    fn create(&self, caller: Caller, credential: Credential) -> Pending<'_, Result<Position, CredentialError>> {
        Box::pin(self.change_credentials(caller, CredentialAction::Create(Box::new(credential))))
    }

    fn revoke(&self, caller: Caller, id: CredentialId) -> Pending<'_, Result<Position, CredentialError>> {
        Box::pin(self.change_credentials(caller, CredentialAction::Revoke(vec![id])))
    }
}
