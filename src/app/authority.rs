//! The authority's node: journal, authority, index and surfaces, in the order in which each may rely on the one before.
//!
//! Ports are bound first, so that a taken one is noticed at once; they answer once everything behind them has recovered.
//! Stopping goes the other way: the surfaces let their requests finish, then the last commits are made.

use std::sync::Arc;

use tonic::service::Routes;

use super::front::{Front, stop_on_signal};
use super::metered::{MeteredPublish, metered};
use crate::authority::{Authority, Image, Options, Publish, Published, RecoverError, Recovered, recover};
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::journal::Index;
use crate::journal::index::IndexError;
use crate::surface::{BindError, Node, Surface};
use crate::telemetry::Metrics;

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The data directory does not recover.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The search index cannot be opened.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The system refuses a thread or a signal handler.
    #[error("the system refuses a thread or a signal handler")]
    System(#[from] std::io::Error),
}

/// Runs a server until it is told to stop.
///
/// # Errors
/// Everything a [`ServeError`] can say; once it serves, none.
pub async fn serve(config: ServerConfig) -> Result<(), ServeError> {
    let front = Front::bind(&config).await?;
    let clock = Clock::system();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let options = Options {
        data_dir: config.data_dir.clone(),
        policy: config.policy,
        audit_retention: config.audit_retention,
        clock: clock.clone(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
    };
    tracing::info!(data_dir = %config.data_dir.display(), "recovering");
    let recovered = blocking(move || recover(options)).await??;
    let index = open_index(&config, &recovered)?;
    let publisher = Arc::new(MeteredPublish::new(Arc::new(Nobody), Arc::clone(&metrics)));
    let authority = Authority::start(recovered, index, publisher, [0; 32])?;

    let node = Node {
        checks: authority.clone(),
        writes: authority.clone(),
        finds: authority.clone(),
        reports: authority.clone(),
    };
    let surface = Surface::new(metered(node, &metrics, &clock), &config.surface, Routes::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let signals = stop_on_signal(stop.clone())?;
    announce(&config, &front, &authority);
    front.serve(surface, authority.clone(), metrics, stop).await;
    signals.abort();
    blocking(move || authority.stop()).await?;
    tracing::info!("stopped");
    Ok(())
}

struct Nobody;

impl Publish for Nobody {
    fn publish(&self, _published: Published) {}

    fn offer_snapshot(&self, _image: Arc<Image>) {}
}

fn open_index(config: &ServerConfig, recovered: &Recovered) -> Result<Index, IndexError> {
    let opened = Index::open(&config.data_dir, recovered.identity(), recovered.reader())?;
    if let Some(reason) = opened.rebuilding {
        tracing::warn!(reason, "the search index is rebuilt from the journal");
    }
    Ok(opened.index)
}

fn announce(config: &ServerConfig, front: &Front, authority: &Authority) {
    use crate::revocation::ports::Reports as _;
    let status = authority.status();
    let position = status.position();
    let (listen, ops_listen) = (front.listen(), front.ops_listen());
    let data_dir = config.data_dir.display();
    if config.surface.insecure {
        tracing::warn!(%listen, "INSECURE: no TLS and no authentication; whoever reaches this port can revoke and reinstate");
    }
    tracing::info!(%listen, %ops_listen, %data_dir, %position, entries = status.live_entries, "serving");
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ServeError::System(std::io::Error::other(error)))
}
