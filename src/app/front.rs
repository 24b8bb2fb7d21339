//! The two listeners of a server, bound before anything is opened and served until it is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::descriptors::within_descriptors;
use crate::config::{AgentConfig, ServerConfig, TlsConfig};
use crate::revocation::ports::Reports;
use crate::security::audit::Denials;
use crate::security::tls::ServerTls;
use crate::security::watch::Reloads;
use crate::surface::ops::{self, Ops};
use crate::surface::{self, Address, BindError, Bounds, Connections, Listener, SentAway, Surface};
use crate::telemetry::Metrics;
use crate::token::Verifier;

/// Connections at once on the operators' port: a few scrapers and probes.
const OPS_CONNECTIONS_MAX: usize = 64;

/// Both, bound.
#[derive(Debug)]
pub struct Front {
    callers: Listener,
    operators: Listener,
    bounds: Bounds,
    /// What the listeners speak, if not in clear.
    tls: Option<Arc<ServerTls>>,
    /// What is read again when its files change.
    reloads: Vec<Arc<Reloads>>,
    /// Who was turned away.
    denials: Arc<Denials>,
    /// Who decides about tokens.
    verifier: Option<Verifier>,
    /// Where the journal is measured, if there is one.
    journal_dir: Option<PathBuf>,
}

impl Front {
    /// Binds both, so that a taken one is noticed before anything else is done.
    ///
    /// # Errors
    /// When one is taken or cannot be bound.
    pub async fn bind(config: &ServerConfig) -> Result<Self, BindError> {
        let journal_dir = Some(config.data_dir.clone());
        Self::bind_both(&config.listen, config.ops_listen, &config.surface, journal_dir).await
    }

    /// The same for an agent, which has no journal.
    ///
    /// # Errors
    /// As [`Front::bind`].
    pub async fn bind_agent(config: &AgentConfig) -> Result<Self, BindError> {
        Self::bind_both(&config.listen, config.ops_listen, &config.surface, None).await
    }

    async fn bind_both(
        listen: &Address,
        ops_listen: SocketAddr,
        options: &surface::Options,
        journal_dir: Option<PathBuf>,
    ) -> Result<Self, BindError> {
        Ok(Self {
            callers: Listener::bind(listen.clone(), "--listen").await?,
            operators: Listener::bind(ops_listen.into(), "--ops-listen").await?,
            bounds: within_descriptors(options.bounds),
            tls: None,
            reloads: Vec::new(),
            denials: Arc::default(),
            verifier: None,
            journal_dir,
        })
    }

    /// Speaks TLS where callers connect; and where operators do, if `config` says so.
    #[must_use]
    pub fn secured(mut self, tls: Option<Arc<ServerTls>>, config: Option<&TlsConfig>) -> Self {
        let Some(tls) = tls else { return self };
        let callers = Arc::clone(&tls);
        self.callers = self.callers.secured(Some(Arc::new(move || callers.callers()))).recalling(Arc::clone(&tls));
        if config.is_some_and(|config| config.ops) {
            let operators = Arc::clone(&tls);
            self.operators = self.operators.secured(Some(Arc::new(move || operators.operators())));
        }
        self.tls = Some(tls);
        self
    }

    /// Tells in the metrics what is read again.
    #[must_use]
    pub fn reporting(self, reloads: Vec<Arc<Reloads>>) -> Self {
        Self { reloads, ..self }
    }

    /// Tells in the metrics who was turned away.
    #[must_use]
    pub fn denying(self, denials: Arc<Denials>) -> Self {
        Self { denials, ..self }
    }

    /// Tells in the metrics what was decided about tokens.
    #[must_use]
    pub fn deciding(self, verifier: Verifier) -> Self {
        Self { verifier: Some(verifier), ..self }
    }

    /// Where callers connect.
    #[must_use]
    pub fn listen(&self) -> &Address {
        self.callers.address()
    }

    /// Where metrics and health are.
    #[must_use]
    pub fn ops_listen(&self) -> &Address {
        self.operators.address()
    }

    /// Answers on both ports until `stop` is cancelled and the requests that had begun are answered. The operators'
    /// port stays open until then, so that the server can be seen stopping.
    pub async fn serve(
        self,
        surface: Surface,
        reports: Arc<dyn Reports>,
        sent_away: Arc<SentAway>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let connections = self.callers.connections();
        let (observed, journal_dir) = (Arc::clone(&reports), self.journal_dir);
        let (tls, reloads, denials, verifier) = (self.tls, self.reloads, self.denials, self.verifier);
        let render = Arc::new(move || {
            observe(&metrics, observed.as_ref());
            observe_callers(&metrics, &connections, &sent_away);
            observe_files(&metrics, tls.as_deref(), &reloads);
            metrics.set_requests_denied(denials.counts());
            verifier.iter().for_each(|verifier| observe_decisions(&metrics, verifier));
            metrics.journal_bytes.set(journal_dir.as_deref().map_or(0, journal_bytes));
            metrics.render()
        });
        let operators = ops::router(Ops { metrics: render, reports, stop: stop.clone() });
        let callers_done = CancellationToken::new();
        surface.set_serving(true).await;
        let serve_operators =
            self.operators.serve(operators, Bounds::connections(OPS_CONNECTIONS_MAX), callers_done.clone());
        let serve_callers = async {
            let not_serving = async {
                stop.cancelled().await;
                surface.set_serving(false).await;
            };
            tokio::join!(self.callers.serve(surface.app.clone(), self.bounds, stop.clone()), not_serving);
            callers_done.cancel();
        };
        tokio::join!(serve_operators, serve_callers);
    }
}

/// What an exposed port does without, for the log.
pub(super) fn lacks(is_secured: bool, is_authenticating: bool) -> &'static str {
    match (is_secured, is_authenticating) {
        (false, false) => "TLS and authentication",
        (false, true) => "TLS",
        (true, false) => "authentication",
        (true, true) => "nothing",
    }
}

/// Cancels `stop` when the process is told to end: SIGTERM or SIGINT.
///
/// # Errors
/// When signals cannot be listened for.
pub fn stop_on_signal(stop: CancellationToken) -> std::io::Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    }))
}

/// Brings the metrics that are measured, not counted, up to date.
fn observe(metrics: &Metrics, reports: &dyn Reports) {
    let status = reports.status();
    metrics.subscribers.set(status.subscribers as u64);
    // Counted where it happens, since the start; it never falls.
    metrics.history_lost_revisions.inner().store(status.history_lost, Ordering::Relaxed);
    // Whoever follows knows only of those that are connected to it.
    if status.following.is_none() {
        metrics.set_members_cut_off(status.members_cut_off);
    }
    metrics.live_entries.set(status.live_entries);
    metrics.max_entries.set(status.policy.max_entries);
    metrics.active_shapes.set(status.shapes.len() as u64);
    metrics.position_revision.set(status.revision.0);
    metrics.epoch_generation.set(status.epoch.generation);
    metrics.index_lag_revisions.set(status.revision.0.saturating_sub(status.indexed_through.0));
    // Never heard is older than any time.
    let is_known = status.staleness < Duration::MAX;
    metrics.staleness_seconds.set(if is_known { seconds(status.staleness) } else { f64::INFINITY });
    metrics.uptime_seconds.set(seconds(status.uptime));
    metrics.writes_refused.set(status.writes_refused.is_some().into());
    metrics.clock_alarm.set(status.clock_alarm.is_some().into());
}

/// The same for what the surface counts.
fn observe_callers(metrics: &Metrics, connections: &Connections, sent_away: &SentAway) {
    metrics.set_sent_away(sent_away.counts());
    metrics.connections.set(connections.open());
    metrics.connections_unproven.set(connections.unproven());
    metrics.set_connections(connections.refused(), connections.closed());
    metrics.requests_under_way.set(connections.budget().under_way());
    metrics.set_requests_shed(connections.budget().shed());
    metrics.connections_broken.inner().store(connections.broken(), Ordering::Relaxed);
    metrics.set_handshakes_failed(connections.handshakes_failed());
}

/// The same for certificates, and for all that is read again.
fn observe_files(metrics: &Metrics, tls: Option<&ServerTls>, reloads: &[Arc<Reloads>]) {
    // Without a certificate none expires.
    metrics.tls_certificate_expiry.set(tls.map_or(f64::INFINITY, |tls| tls.remaining_seconds() as f64));
    for reloads in reloads {
        metrics.set_reloads(reloads.name(), reloads.done(), reloads.failed());
    }
}

/// The same for what was decided about tokens, and the issuers whose keys that needs.
fn observe_decisions(metrics: &Metrics, verifier: &Verifier) {
    let tally = verifier.tally();
    metrics.set_decisions(tally.allowed(), tally.denied(), tally.unclear());
    let sources = verifier.keys().status();
    metrics.issuers.set(sources.len() as u64);
    metrics.issuers_without_keys.set(sources.iter().filter(|source| source.keys == 0).count() as u64);
    metrics.issuers_failing.set(sources.iter().filter(|source| source.failure.is_some()).count() as u64);
}

/// What the journal takes on disk, its write-ahead log included.
fn journal_bytes(data_dir: &Path) -> u64 {
    let bytes = |name| std::fs::metadata(data_dir.join(name)).map_or(0, |file| file.len());
    bytes("journal.sqlite") + bytes("journal.sqlite-wal")
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
