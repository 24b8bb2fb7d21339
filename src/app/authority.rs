//! The authority's node: journal, authority, index and surfaces, in the order in which each may rely on the one before.
//!
//! Ports are bound first, so that a taken one is noticed at once; they answer once everything behind them has recovered.
//! Stopping goes the other way: the surfaces let their requests finish, then the last commits are made.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::doorkeeper::{self, DoorError, Doorkeeper, Doorway, Kept};
use super::front::{Front, lacks, stop_on_signal};
use super::hardening::forbid_dumps;
use super::metered::{MeteredPublish, metered};
use super::reload::Hangups;
use super::verification::Verification;
use crate::authority::members::Roster;
use crate::authority::policies::PolicyGate;
use crate::authority::propagation::Propagator;
use crate::authority::{Authority, Options, RecoverError, Recovered, recover};
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::hub::{self, Hub};
use crate::journal::index::IndexError;
use crate::journal::{Index, JournalReader, ReadError, Record};
use crate::replication::frames::NodeId;
use crate::replication::source::{HistoryError, Source as _};
use crate::replication::{LogPoint, Signer};
use crate::revocation::Revision;
use crate::revocation::ports::{Reports, Status};
use crate::security::tls::{ServerTls, TlsError};
use crate::security::watch::Watched;
use crate::surface::{self, BindError, Node, Surface, subscribe_service};
use crate::telemetry::Metrics;
use crate::wire::replication::GrpcEncoder;

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
    /// A certificate, a key or a list of them cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The door cannot be opened.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The system refuses a thread or a signal handler.
    #[error("the system refuses a thread or a signal handler")]
    System(#[from] std::io::Error),
}

/// How long subscriptions may take to end once their connections are closed.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs a server until it is told to stop.
///
/// # Errors
/// Everything a [`ServeError`] can say; once it serves, none.
pub async fn serve(config: ServerConfig) -> Result<(), ServeError> {
    forbid_dumps();
    let hangups = Hangups::listen()?;
    doorkeeper::check(config.principals.as_deref()).map_err(DoorError::from)?;
    let clock = Clock::system();
    let tls =
        config.tls.as_ref().map(|tls| ServerTls::load(tls.files.clone(), clock.clone())).transpose()?.map(Arc::new);
    let front = Front::bind(&config).await?.secured(tls.clone(), config.tls.as_ref());
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let options = Options {
        policy: config.policy,
        audit_retention: config.audit_retention,
        snapshot_bytes_min: config.snapshot_bytes_min,
        ..Options::new(config.data_dir.clone(), clock.clone())
    };
    tracing::info!(data_dir = %config.data_dir.display(), "recovering");
    let recovered = blocking(move || recover(options)).await??;
    let index = open_index(&config, &recovered)?;
    let hub = hub_of(&recovered, &clock)?;
    let has_past = recovered.has_past;
    let publisher = Arc::new(MeteredPublish::new(hub.clone(), Arc::clone(&metrics)));
    let public_key = hub.origin().public_key.0;
    let authority = Authority::start(recovered, index, publisher, public_key)?;
    let (data_dir, set, time) = (config.data_dir.clone(), Arc::clone(authority.set()), clock.clone());
    let epoch = hub.epoch();
    let roster = blocking(move || Roster::open(&data_dir, epoch, has_past, set, time)).await??;
    hub.set_members(roster.clone());
    let feeding = tokio::spawn(hub.clone().run());

    let reports = Arc::new(Reported { authority: authority.clone(), hub: hub.clone(), roster: roster.clone() });
    let propagates = Arc::new(Propagator::new(authority.clone(), hub.clone(), roster.clone(), clock.clone()));
    let doorway = Doorway {
        principals: config.principals.clone(),
        requests_per_second: config.requests_per_second,
        denied_file: Some(doorkeeper::denied_file(config.denied_file.as_deref(), &config.data_dir)),
    };
    let kept = Kept { credentials: authority.clone(), changes: authority.credential_changes() };
    let keeper = Doorkeeper::open(doorway, Some(kept), clock.clone())?;
    let policies = Arc::new(PolicyGate::new(authority.clone(), hub.clone()));
    let node = Node {
        checks: authority.clone(),
        writes: authority.clone(),
        finds: authority.clone(),
        reports: reports.clone(),
        operates: authority.clone(),
        propagates: propagates.clone(),
        credentials: Some(authority.clone()),
        verifier: None,
        policies: Some(policies),
        verification: authority.clone(),
    };
    let subscriptions = subscribe_service(hub.clone()).listing(propagates).guarded();
    let routes = Routes::new(subscriptions.clone());
    let options = surface::Options { tls: tls.is_some(), ..config.surface.clone() };
    let node = metered(node, &metrics, &clock);
    let verification =
        Verification::begin(authority.clone(), Arc::clone(&node.checks), config.issuer_ca.clone(), &clock);
    let node = Node { verifier: Some(verification.verifier.clone()), ..node };
    let surface = Surface::behind(keeper.door.clone(), node, &options, routes);
    let watched = tls.into_iter().map(|tls| tls as Arc<dyn Watched>).chain(keeper.watched()).collect();
    let reloading = hangups.watch(watched);
    let front = front.reporting(reloading.reloads()).denying(Arc::clone(&keeper.denials));
    let front = front.deciding(verification.verifier.clone());
    let stop = CancellationToken::new();
    let signals = stop_on_signal(stop.clone())?;
    announce(&config, &front, &reports.status());
    let goodbye = async {
        stop.cancelled().await;
        hub.stop();
    };
    tokio::join!(front.serve(surface, reports, subscriptions.sent_away(), metrics, stop.clone()), goodbye);
    signals.abort();
    reloading.stop().await;
    if timeout(DRAIN, async { tokio::join!(subscriptions.drained(), feeding) }).await.is_err() {
        tracing::warn!("some subscriptions were cut");
    }
    blocking(move || {
        keeper.denials.stop();
        authority.stop();
        roster.stop();
    })
    .await?;
    tracing::info!("stopped");
    Ok(())
}

/// What feeds subscribers, going on from what was recovered.
fn hub_of(recovered: &Recovered, clock: &Clock) -> Result<Arc<Hub>, ServeError> {
    let (state, identity) = (recovered.state(), recovered.identity());
    let reader = recovered.reader().map_err(RecoverError::from)?;
    let oldest = reader.oldest().map_err(RecoverError::from)?;
    let mut node = [0; 16];
    getrandom::fill(&mut node).map_err(|error| ServeError::System(std::io::Error::other(error)))?;
    let start = hub::Start {
        node: NodeId(node),
        epoch: identity.epoch,
        ancestors: identity.ancestors.clone(),
        set_key: identity.set_key.clone(),
        signer: Signer::from_seed(identity.signing_seed.expose()),
        point: LogPoint {
            revision: state.revision(),
            digest: state.digest(),
            chain: state.chain(),
            floor: state.floor(),
        },
        policy: state.policy(),
        has_verification: state.policies().version() > 0,
        oldest,
    };
    let history = Arc::new(JournalHistory::new(reader, HISTORY_RECORDS_MAX));
    let hub = Hub::new(hub::Options::default(), start, clock.clone(), Arc::new(GrpcEncoder), history);
    hub.offer_snapshot(Arc::clone(&recovered.image));
    Ok(hub)
}

/// Small records would otherwise be read by the hundred thousand.
const HISTORY_RECORDS_MAX: usize = 4096;

/// The journal's deltas, for subscribers that the shared log no longer reaches.
pub struct JournalHistory {
    reader: Arc<dyn JournalReader>,
    records_max: usize,
}

impl JournalHistory {
    /// Reads at most `records_max` records at once.
    #[must_use]
    pub fn new(reader: Arc<dyn JournalReader>, records_max: usize) -> Self {
        Self { reader, records_max }
    }
}

impl hub::History for JournalHistory {
    fn deltas(&self, from: Revision, bytes_max: usize) -> Result<Vec<hub::Logged>, HistoryError> {
        let records = self.reader.read(from, bytes_max, self.records_max).map_err(|error| match error {
            ReadError::Pruned { .. } => HistoryError::Compacted(from),
            error => HistoryError::Unavailable(error.to_string()),
        })?;
        let logged = |record: Record| hub::Logged {
            revision: record.revision,
            canonical: Bytes::from(record.delta),
            chain: record.chain_after,
        };
        Ok(records.into_iter().map(logged).collect())
    }
}

fn open_index(config: &ServerConfig, recovered: &Recovered) -> Result<Index, ServeError> {
    let reader = recovered.reader().map_err(RecoverError::from)?;
    let opened = Index::open(&config.data_dir, recovered.identity(), reader)?;
    if let Some(reason) = opened.rebuilding {
        tracing::warn!(reason, "the search index is rebuilt from the journal");
    }
    Ok(opened.index)
}

/// The authority's condition, and how many follow it.
struct Reported {
    authority: Arc<Authority>,
    hub: Arc<Hub>,
    roster: Arc<Roster>,
}

impl Reports for Reported {
    fn status(&self) -> Status {
        Status {
            subscribers: self.hub.subscriber_count(),
            history_lost: self.hub.history_lost(),
            members_cut_off: self.roster.cut_off(),
            members_trouble: self.roster.trouble(),
            ..self.authority.status()
        }
    }
}

fn announce(config: &ServerConfig, front: &Front, status: &Status) {
    let position = status.position();
    let (listen, ops_listen) = (front.listen(), front.ops_listen());
    let data_dir = config.data_dir.display();
    if config.surface.insecure {
        let lacks = lacks(config.tls.is_some(), config.principals.is_some());
        tracing::warn!(%listen, lacks, "INSECURE: whoever reaches this port may be able to revoke and reinstate");
    }
    tracing::info!(%listen, %ops_listen, %data_dir, %position, entries = status.live_entries, "serving");
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ServeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ServeError::System(std::io::Error::other(error)))
}
