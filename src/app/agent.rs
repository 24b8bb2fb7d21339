//! An agent's node: a replica of one or more upstreams that answers checks and serves its set again.
//!
//! It accepts no writes and searches nothing: those are refused with the name of its upstream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::doorkeeper::{DoorError, Doorkeeper, Doorway};
use super::front::{Front, lacks, stop_on_signal};
use super::hardening::forbid_dumps;
use super::metered::metered;
use super::reload::Hangups;
use super::verification::Verification;
use crate::clock::{BootTime, Clock};
use crate::config::AgentConfig;
use crate::hub;
use crate::relay::Relay;
use crate::replica::cache::{self, CacheError};
use crate::replica::{Driver, DriverOptions, Event, FollowerOptions, InClear, NodeId, Replica, Upstream};
use crate::replication::FollowerStatus;
use crate::replication::frames::Role;
use crate::revocation::ports::{
    AcceptLossError, BackupParts, Caller, ExportParts, FindError, Finds, Following, Found, NotAuthority, OperateError,
    Operates, Page, Pending, Query, Record, ReinstateReply, ReinstateRequest, Reports, RevokeReply, RevokeRequest,
    Status, VerificationPolicies, WriteError, Writes,
};
use crate::revocation::{Epoch, LifetimePolicy, Position, Revision, RevocationId, WhenStale};
use crate::security::tls::{ServerTls, TlsError};
use crate::security::watch::Watched;
use crate::security::{ClientSecurity, ClientSecurityError};
use crate::surface::{self, BindError, Node, Surface, subscribe_service};
use crate::telemetry::Metrics;
use crate::wire::replication::GrpcEncoder;
use crate::wire::upstream::GrpcUpstream;

/// Why an agent cannot run. An upstream that cannot be reached is no reason: it goes on trying.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A port or socket cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The cache is another process's, or cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A certificate, a key or a list of them cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What is to be shown upstream cannot be used.
    #[error(transparent)]
    Upstream(#[from] ClientSecurityError),
    /// A credential would be sent upstream in clear.
    #[error(transparent)]
    InClear(#[from] InClear),
    /// The door cannot be opened.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// The system refuses a signal handler or random bytes.
    #[error("the system refuses a signal handler or random bytes")]
    System(#[from] std::io::Error),
}

/// How long subscriptions may take to end once their connections are closed.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs an agent until it is told to stop.
///
/// # Errors
/// Everything an [`AgentError`] can say; once it serves, none.
pub async fn agent(config: AgentConfig) -> Result<(), AgentError> {
    forbid_dumps();
    let hangups = Hangups::listen()?;
    let doorway = Doorway {
        principals: config.principals.clone(),
        requests_per_second: config.requests_per_second,
        denied_file: config.denied_file.clone(),
    };
    let keeper = Doorkeeper::open(doorway, None, Clock::system())?;
    let clock = Clock::system();
    let tls =
        config.tls.as_ref().map(|tls| ServerTls::load(tls.files.clone(), clock.clone())).transpose()?.map(Arc::new);
    let front = Front::bind_agent(&config).await?.secured(tls.clone(), config.tls.as_ref());
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION")));
    let (random_id, seed, memory) = (random_id()?, random_number()?, random_number()?);
    let cache = open_cache(&config, &clock).await?;
    let gauge = cache.as_ref().map(cache::Opened::gauge);
    // A restart is the same member, if there is a place to remember it.
    let node_id = cache.as_ref().map_or(random_id, cache::Opened::subscriber);
    let hub_options = hub::Options::default();
    let relay = Relay::new(node_id, memory, hub_options, clock.clone(), Arc::new(GrpcEncoder), Handle::current());
    let security = Arc::new(config.upstream.security());
    let upstreams = upstreams(&config, &security)?;
    let first = config.upstreams.first().map(ToString::to_string);
    let current = Arc::new(Mutex::new(first.unwrap_or_default()));
    let driver = Driver::spawn(
        DriverOptions {
            follower: follower_options(&config, node_id, seed),
            upstreams,
            clock: clock.clone(),
            observer: Some(Box::new(remember(Arc::clone(&current)))),
            keepers: vec![Box::new(relay.feeder())],
            below: Some(relay.below()),
            cache,
        },
        &Handle::current(),
    );
    let summing = tokio::spawn(Arc::clone(&relay).run());

    let replica = Arc::clone(driver.replica());
    let started = clock.boot();
    let reports = Arc::new(Reported {
        replica: Arc::clone(&replica),
        relay: Arc::clone(&relay),
        current: Arc::clone(&current),
        gauge,
        metrics: Arc::clone(&metrics),
        clock: clock.clone(),
        started,
    });
    let refusing = Arc::new(Refusing(current));
    let policies = Arc::clone(&replica);
    let verification = Arc::clone(&replica) as Arc<dyn VerificationPolicies>;
    let node = Node {
        checks: replica,
        writes: refusing.clone(),
        finds: refusing.clone(),
        reports: reports.clone(),
        operates: refusing,
        propagates: Arc::new(NotAuthority),
        credentials: None,
        verifier: None,
        policies: None,
        verification,
    };
    let subscriptions = subscribe_service(Arc::clone(&relay)).guarded();
    let routes = Routes::new(subscriptions.clone());
    let options = surface::Options { tls: tls.is_some(), ..config.surface.clone() };
    let node = metered(node, &metrics, &clock);
    let verification = Verification::begin(policies, Arc::clone(&node.checks), config.issuer_ca.clone(), &clock);
    let node = Node { verifier: Some(verification.verifier.clone()), ..node };
    let surface = Surface::behind(keeper.door.clone(), node, &options, routes);
    let shown = (!security.files().is_empty()).then_some(security as Arc<dyn Watched>);
    let watched = tls.into_iter().map(|tls| tls as Arc<dyn Watched>).chain(keeper.watched()).chain(shown).collect();
    let reloading = hangups.watch(watched);
    let front = front.reporting(reloading.reloads()).denying(Arc::clone(&keeper.denials));
    let front = front.deciding(verification.verifier.clone());
    let stop = CancellationToken::new();
    let signals = stop_on_signal(stop.clone())?;
    announce(&config, &front);
    let goodbye = async {
        stop.cancelled().await;
        relay.stop();
    };
    tokio::join!(front.serve(surface, reports, subscriptions.sent_away(), metrics, stop.clone()), goodbye);
    signals.abort();
    reloading.stop().await;
    summing.abort();
    if timeout(DRAIN, subscriptions.drained()).await.is_err() {
        tracing::warn!("some subscriptions were cut");
    }
    driver.shutdown().await;
    let denials = keeper.denials;
    if let Err(error) = tokio::task::spawn_blocking(move || denials.stop()).await {
        tracing::error!(%error, "denied requests were not written to the end");
    }
    tracing::info!("stopped");
    Ok(())
}

/// The servers to follow, and what is shown to them. Files that cannot be used are noticed at once.
fn upstreams(config: &AgentConfig, security: &Arc<ClientSecurity>) -> Result<Vec<Arc<dyn Upstream>>, AgentError> {
    security.check()?;
    let secured = |url| Ok(Arc::new(GrpcUpstream::secured(url, Arc::clone(security))?) as Arc<dyn Upstream>);
    config.upstreams.iter().map(secured).collect()
}

/// Opens the cache, away from the async threads: there may be much to read.
async fn open_cache(config: &AgentConfig, clock: &Clock) -> Result<Option<cache::Opened>, AgentError> {
    let Some(dir) = config.cache_dir.clone() else { return Ok(None) };
    let (entries_max, clock) = (config.max_entries, clock.clone());
    let opened = tokio::task::spawn_blocking(move || cache::open(&dir, entries_max, clock)).await;
    Ok(Some(opened.map_err(std::io::Error::other)??))
}

fn random_id() -> Result<NodeId, std::io::Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(std::io::Error::other)?;
    Ok(NodeId(id))
}

fn random_number() -> Result<u64, std::io::Error> {
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(std::io::Error::other)?;
    Ok(u64::from_le_bytes(number))
}

fn follower_options(config: &AgentConfig, node: NodeId, seed: u64) -> FollowerOptions {
    let leaf = FollowerOptions::leaf(node, config.name.as_str(), seed);
    FollowerOptions {
        role: Role::Relay,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        path: vec![node],
        public_key: config.public_key,
        entries_max: config.max_entries,
        local_policy: config.local_policy(),
        lifetime_policy: config.lifetime_policy.unwrap_or(LifetimePolicy::Warn),
        break_glass: config.override_policy,
        ..leaf
    }
}

/// Keeps the name of the upstream that is followed, or tried.
fn remember(current: Arc<Mutex<String>>) -> impl FnMut(Event<'_>, &FollowerStatus) + Send {
    move |event, _| {
        if let Event::Connected { server } | Event::Disconnected { server, .. } = event {
            let mut current = current.lock();
            if *current != server {
                server.clone_into(&mut current);
            }
        }
    }
}

/// How the agent is.
struct Reported {
    replica: Arc<Replica>,
    relay: Arc<Relay>,
    current: Arc<Mutex<String>>,
    /// Of the cache on disk, if there is one.
    gauge: Option<cache::Gauge>,
    metrics: Arc<Metrics>,
    clock: Clock,
    started: BootTime,
}

impl Reports for Reported {
    fn status(&self) -> Status {
        let status = self.replica.status();
        self.count(&status);
        let revision = status.position.map_or(Revision(0), |position| position.revision);
        let hub = self.relay.hub();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            epoch: status.epoch.unwrap_or(Epoch { generation: 0, id: [0; 16] }),
            revision,
            digest: status.digest,
            live_entries: status.entries,
            policy: status.logged,
            shapes: status.shapes,
            floor: status.floor,
            staleness: status.staleness,
            uptime: self.clock.boot().since(self.started),
            // It has no index, so none that lags.
            indexed_through: revision,
            oldest: hub.as_ref().map_or(revision, |hub| hub.oldest()),
            subscribers: hub.as_ref().map_or(0, |hub| hub.subscriber_count()),
            writes_refused: None,
            clock_alarm: None,
            index_trouble: None,
            public_key: status.public_key.map_or([0; 32], |key| key.0),
            audit_head: None,
            now: self.clock.wall(),
            history_lost: hub.as_ref().map_or(0, |hub| hub.history_lost()),
            members_cut_off: 0,
            members_trouble: None,
            following: Some(Following {
                upstream: self.current.lock().clone(),
                state: status.state.name(),
                lag: status.lag,
                ready: status.ready,
                // Of what was never held there is no age.
                stale: status.stale && status.position.is_some(),
                deny_when_stale: status.policy.when_stale == WhenStale::Deny,
                max_staleness: status.policy.max_staleness,
                residues: status.residues,
            }),
        }
    }
}

impl Reported {
    /// The replica counts by itself; its counts are brought over when somebody looks.
    fn count(&self, status: &crate::replica::ReplicaStatus) {
        self.metrics.set_replica_counts(
            status.counts.connection_failures,
            status.counts.snapshots,
            status.counts.divergences,
            status.counts.served_stale,
        );
        self.metrics.set_upstream_breaks(status.counts.breaks);
        if let Some(gauge) = &self.gauge {
            let cache = gauge.read();
            self.metrics.cache_writes.inner().store(cache.writes, Ordering::Relaxed);
            self.metrics.cache_failures.inner().store(cache.failures, Ordering::Relaxed);
            self.metrics.cache_broken.set(cache.is_broken.into());
            self.metrics.cache_bytes.set(cache.bytes);
            self.metrics.cache_position_revision.set(cache.revision.0);
        }
    }
}

/// Turns away what only the authority can do.
struct Refusing(Arc<Mutex<String>>);

impl Refusing {
    fn upstream(&self) -> String {
        self.0.lock().clone()
    }
}

impl Writes for Refusing {
    fn revoke(&self, _: RevokeRequest) -> Pending<'_, Result<RevokeReply, WriteError>> {
        Box::pin(async { Err(WriteError::NotTheAuthority { upstream: self.upstream() }) })
    }

    fn reinstate(&self, _: ReinstateRequest) -> Pending<'_, Result<ReinstateReply, WriteError>> {
        Box::pin(async { Err(WriteError::NotTheAuthority { upstream: self.upstream() }) })
    }
}

impl Finds for Refusing {
    fn find(&self, _: RevocationId, _: Option<Position>) -> Pending<'_, Result<Found<Option<Record>>, FindError>> {
        Box::pin(async { Err(FindError::NotTheAuthority { upstream: self.upstream() }) })
    }

    fn list(&self, _: Query) -> Pending<'_, Result<Found<Page>, FindError>> {
        Box::pin(async { Err(FindError::NotTheAuthority { upstream: self.upstream() }) })
    }
}

impl Operates for Refusing {
    fn backup(&self) -> Result<BackupParts, OperateError> {
        Err(OperateError::Unsupported)
    }

    fn export(&self, _: Revision) -> Result<ExportParts, OperateError> {
        Err(OperateError::Unsupported)
    }

    fn accept_loss(&self, _: Caller, _: u64) -> Pending<'_, Result<Position, AcceptLossError>> {
        Box::pin(async { Err(WriteError::NotTheAuthority { upstream: self.upstream() }.into()) })
    }
}

fn announce(config: &AgentConfig, front: &Front) {
    let (listen, ops_listen) = (front.listen(), front.ops_listen());
    if config.surface.insecure {
        let lacks = lacks(config.tls.is_some(), config.principals.is_some());
        tracing::warn!(%listen, lacks, "INSECURE: whoever reaches this port may be able to get the set key");
    }
    if config.override_policy {
        tracing::warn!("BREAK GLASS: the set is served however stale it is, whatever policy says");
    }
    let upstreams: Vec<String> = config.upstreams.iter().map(ToString::to_string).collect();
    let upstreams = upstreams.join(",");
    tracing::info!(%listen, %ops_listen, upstreams, name = config.name.as_str(), "agent serving");
}
