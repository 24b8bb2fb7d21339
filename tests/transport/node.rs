//! A replica on a simulated host, as a leaf or as a relay: the driver, the relay and the surface that an agent has.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rescind::clock::{Clock, ManualTime};
use rescind::hub;
use rescind::relay::Relay;
use rescind::replica::cache;
use rescind::replica::{Driver, DriverOptions, FollowerOptions, NodeId, Replica};
use rescind::replication::frames::Role;
use rescind::surface::{Bounds, SentAway, SubscribeService, serve_from, subscribe_service};
use rescind::wire::replication::GrpcEncoder;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::network::{SimListener, SimUpstream};

/// Who follows whom, and what there is of it at the moment.
pub struct Node {
    pub name: String,
    number: u8,
    role: Role,
    upstreams: Vec<String>,
    cache_dir: Option<PathBuf>,
    time: Arc<ManualTime>,
    /// Its reader takes its time.
    pub is_slow: Arc<AtomicBool>,
    starts: AtomicU64,
    running: Mutex<Option<Running>>,
}

#[derive(Clone)]
struct Running {
    replica: Arc<Replica>,
    relay: Option<(Arc<Relay>, SubscribeService)>,
    stop: CancellationToken,
}

impl Node {
    pub fn new(name: &str, number: u8, role: Role, upstreams: &[&str], time: &Arc<ManualTime>) -> Self {
        Self {
            name: name.to_owned(),
            number,
            role,
            upstreams: upstreams.iter().map(ToString::to_string).collect(),
            cache_dir: None,
            time: Arc::clone(time),
            is_slow: Arc::default(),
            starts: AtomicU64::new(0),
            running: Mutex::new(None),
        }
    }

    /// The same with a cache on disk.
    pub fn with_cache(self, dir: PathBuf) -> Self {
        Self { cache_dir: Some(dir), ..self }
    }

    /// How often it was started.
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::SeqCst)
    }

    pub fn replica(&self) -> Option<Arc<Replica>> {
        self.running.lock().as_ref().map(|running| Arc::clone(&running.replica))
    }

    pub fn hub(&self) -> Option<Arc<hub::Hub>> {
        self.running.lock().as_ref()?.relay.as_ref()?.0.hub()
    }

    /// Whom this run has sent away, if it is a relay.
    pub fn sent_away(&self) -> Option<Arc<SentAway>> {
        Some(self.running.lock().as_ref()?.relay.as_ref()?.1.sent_away())
    }

    /// It is gone, as far as the test is concerned.
    pub fn crash(&self) {
        *self.running.lock() = None;
    }

    /// Says goodbye on both sides and ends.
    pub fn stop(&self) {
        if let Some(running) = self.running.lock().take() {
            running.relay.inspect(|(relay, _)| relay.stop());
            running.stop.cancel();
        }
    }

    /// The software of its host.
    pub async fn run(self: Arc<Self>) -> turmoil::Result {
        let start = self.starts.fetch_add(1, Ordering::SeqCst);
        let clock = Clock::manual(Arc::clone(&self.time));
        let node = NodeId([self.number; 16]);
        let cache = self.cache_dir.as_ref().map(|dir| cache::open(dir, u64::MAX, clock.clone())).transpose()?;
        let is_relay = self.role == Role::Relay;
        let relay = is_relay.then(|| {
            let options = hub::Options::default();
            let memory = u64::from(self.number) << 32 | start;
            Relay::new(node, memory, options, clock.clone(), Arc::new(GrpcEncoder), Handle::current())
        });
        let leaf = FollowerOptions::leaf(node, &self.name, u64::from(self.number) * 1000 + start);
        let path = relay.iter().map(|_| node).collect();
        let driver = Driver::spawn(
            DriverOptions {
                follower: FollowerOptions { role: self.role, path, ..leaf },
                upstreams: self.upstreams.iter().map(|host| SimUpstream::at(host, Arc::clone(&self.is_slow))).collect(),
                clock,
                observer: None,
                keepers: relay.iter().map(|relay| Box::new(relay.feeder()) as _).collect(),
                below: relay.as_ref().map(|relay| relay.below()),
                cache,
            },
            &Handle::current(),
        );
        let (replica, stop) = (Arc::clone(driver.replica()), CancellationToken::new());
        let served = relay.map(|relay| (Arc::clone(&relay), subscribe_service(relay)));
        *self.running.lock() = Some(Running { replica, relay: served.clone(), stop: stop.clone() });
        if let Some((relay, service)) = served {
            let summing = tokio::spawn(relay.run());
            let app = Routes::new(service).prepare().into_axum_router();
            serve_from(SimListener::bind().await?, app, Bounds::connections(1000), Arc::default(), stop).await;
            summing.abort();
        } else {
            stop.cancelled().await;
        }
        driver.shutdown().await;
        Ok(())
    }
}
