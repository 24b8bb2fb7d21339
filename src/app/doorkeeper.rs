//! The door of a node, as it is configured: who keeps the list, and where those are noted who were turned away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::clock::Clock;
use crate::revocation::ports::Credentials;
use crate::security::access::{Access, Options, Tokens};
use crate::security::audit::{AuditError, Denials};
use crate::security::principals::{Principals, PrincipalsError};
use crate::security::watch::{ReloadError, Watched};
use crate::surface::Door;

/// Where denied requests of a server are written, unless told otherwise: in its data directory.
const DENIED_FILE: &str = "denied.ndjson";

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The principals cannot be used.
    #[error(transparent)]
    Principals(#[from] PrincipalsError),
    /// Denied requests cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// What is configured of it.
#[derive(Clone, Debug)]
pub(super) struct Doorway {
    /// The principals file; without it nobody is asked who he is.
    pub(super) principals: Option<PathBuf>,
    /// The most requests of one principal in a second.
    pub(super) requests_per_second: u32,
    /// Where denied requests are written.
    pub(super) denied_file: Option<PathBuf>,
}

/// The door, and what is behind it.
pub(super) struct Doorkeeper {
    /// What callers come through.
    pub(super) door: Door,
    /// Who was turned away.
    pub(super) denials: Arc<Denials>,
    access: Option<Arc<Access>>,
    /// Has everybody asked again when credentials come or go.
    _asking_again: Option<AbortOnDropHandle<()>>,
}

/// The credentials of a journal, and what tells of changes of them.
pub(super) struct Kept {
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) changes: watch::Receiver<u64>,
}

/// Refuses a principals file that cannot be used, before anything is opened.
pub(super) fn check(principals: Option<&Path>) -> Result<(), PrincipalsError> {
    principals.map_or(Ok(()), |path| Principals::read(path).map(drop))
}

/// Where denied requests are written of a server that keeps its data there.
pub(super) fn denied_file(configured: Option<&Path>, data_dir: &Path) -> PathBuf {
    configured.map_or_else(|| data_dir.join(DENIED_FILE), Path::to_owned)
}

impl Doorkeeper {
    /// Opens the door that is configured.
    ///
    /// # Errors
    /// When a file of it cannot be used.
    pub(super) fn open(doorway: Doorway, kept: Option<Kept>, tokens: Tokens, clock: Clock) -> Result<Self, DoorError> {
        let Some(principals) = doorway.principals else {
            return Ok(Self { door: Door::default(), denials: Arc::default(), access: None, _asking_again: None });
        };
        let (credentials, changes) = kept.map(|kept| (kept.credentials, kept.changes)).unzip();
        let options = Options { principals, requests_per_second: doorway.requests_per_second };
        let access = Access::open(options, credentials, Some(tokens), clock.clone())?;
        let denials = Arc::new(match doorway.denied_file {
            Some(path) => Denials::written(&path, clock)?,
            None => Denials::default(),
        });
        let door = Door::asking(Arc::clone(&access), Arc::clone(&denials));
        tracing::info!(file = %access.principals_file().display(), principals = access.principal_count(), "callers are asked who they are");
        let asking_again =
            changes.map(|changes| AbortOnDropHandle::new(tokio::spawn(ask_again(Arc::clone(&access), changes))));
        Ok(Self { door, denials, access: Some(access), _asking_again: asking_again })
    }

    /// What is to be read again when it changes.
    pub(super) fn watched(&self) -> Option<Arc<dyn Watched>> {
        Some(Arc::new(PrincipalsFile(Arc::clone(self.access.as_ref()?))))
    }
}

/// Calls are judged by themselves; this is for subscriptions, which last.
async fn ask_again(access: Arc<Access>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        access.begin_generation();
    }
}

struct PrincipalsFile(Arc<Access>);

impl Watched for PrincipalsFile {
    fn name(&self) -> &'static str {
        "principals"
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.0.principals_file().to_owned()]
    }

    fn reload(&self) -> Result<(), ReloadError> {
        let principals = self.0.reload()?;
        tracing::debug!(principals, "the principals file was read");
        Ok(())
    }
}
