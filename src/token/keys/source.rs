//! The keys of one issuer: a task that fetches them again and again.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::discovery::{self, DiscoveryError};
use super::fetch::{Fetch, FetchError, Fetched};
use crate::revocation::verification::KeySource;
use crate::token::{KEY_SET_BYTES_MAX, KeySet, KeySetError};

/// How often keys are fetched when the server does not say how long they may be kept.
pub const REFRESH_EVERY: Duration = Duration::from_secs(10 * 60);
/// At most this often, whatever it says: a provider that says `max-age=0` is not asked all the time.
pub const REFRESH_EVERY_MIN: Duration = Duration::from_secs(60);
/// At least this often, whatever it says: a key that was withdrawn is not trusted for longer.
pub const REFRESH_EVERY_MAX: Duration = Duration::from_secs(24 * 3600);
/// How soon after one fetch a token with an unknown key can cause another.
pub const FORCED_EVERY: Duration = Duration::from_secs(10);
/// How long a fetch may take, discovery included.
pub const FETCH_WITHIN: Duration = Duration::from_secs(5);
/// How often a file is read.
const FILE_EVERY: Duration = Duration::from_secs(10);
/// After a failure; twice as long after each further one, up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);

pub(super) struct Source {
    place: KeySource,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// How a source of keys is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Whose keys they are.
    pub iss: String,
    /// How many keys are known.
    pub keys: usize,
    /// How long ago they were fetched; `None`: never.
    pub age: Option<Duration>,
    /// Why the last fetch failed, in one line; `None`: it did not.
    pub failure: Option<String>,
}

struct State {
    iss: String,
    keys: ArcSwapOption<KeySet>,
    attempts: watch::Sender<Attempts>,
    wanted: Notify,
    last: Mutex<Last>,
}

#[derive(Clone, Copy)]
struct Attempts {
    /// How many are over.
    done: u64,
    is_running: bool,
    /// When the last one began.
    began: Instant,
}

#[derive(Default)]
struct Last {
    fetched_at: Option<Instant>,
    failure: Option<String>,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum SourceError {
    #[error("{url} {error}")]
    Fetch { url: String, error: FetchError },
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("{path}: {error}")]
    File { path: String, error: std::io::Error },
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

impl Source {
    pub(super) fn spawn(iss: &str, place: KeySource, fetch: Arc<dyn Fetch>, runtime: &Handle) -> Self {
        let state = Arc::new(State {
            iss: iss.to_owned(),
            keys: ArcSwapOption::empty(),
            attempts: watch::Sender::new(Attempts { done: 0, is_running: true, began: Instant::now() }),
            wanted: Notify::new(),
            last: Mutex::default(),
        });
        let task = runtime.spawn(run(Arc::clone(&state), place.clone(), fetch));
        Self { place, state, task }
    }

    pub(super) fn place(&self) -> &KeySource {
        &self.place
    }

    pub(super) fn keys(&self) -> Option<Arc<KeySet>> {
        self.state.keys.load_full()
    }

    pub(super) async fn newer(&self, within: Duration) -> bool {
        let mut attempts = self.state.attempts.subscribe();
        let before = *attempts.borrow_and_update();
        if !before.is_running {
            if before.began.elapsed() < FORCED_EVERY {
                return false;
            }
            self.state.wanted.notify_one();
        }
        let is_over = timeout(within, attempts.wait_for(|now| now.done > before.done)).await;
        matches!(is_over, Ok(Ok(_)))
    }

    pub(super) fn status(&self) -> SourceStatus {
        let last = self.state.last.lock();
        SourceStatus {
            iss: self.state.iss.clone(),
            keys: self.keys().map_or(0, |keys| keys.count()),
            age: last.fetched_at.map(|at| at.elapsed()),
            failure: last.failure.clone(),
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(state: Arc<State>, place: KeySource, fetch: Arc<dyn Fetch>) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        state.attempts.send_modify(|attempts| (attempts.is_running, attempts.began) = (true, began));
        let fetched = fetch_keys(&state.iss, &place, fetch.as_ref()).await;
        let wait = match &fetched {
            Ok((_, max_age)) => {
                failures = 0;
                max_age.map_or(REFRESH_EVERY, |age| age.clamp(REFRESH_EVERY_MIN, REFRESH_EVERY_MAX))
            }
            Err(_) => {
                failures += 1;
                RETRY_MIN.saturating_mul(1 << (failures - 1).min(10)).min(RETRY_MAX)
            }
        };
        let wait = if matches!(place, KeySource::File(_)) { FILE_EVERY } else { wait };
        state.note(fetched.map(|(keys, _)| keys));
        state.attempts.send_modify(|attempts| (attempts.is_running, attempts.done) = (false, attempts.done + 1));
        let forced = async {
            state.wanted.notified().await;
            sleep_until(began + FORCED_EVERY).await;
        };
        tokio::select! {
            () = sleep(wait) => {}
            () = forced => {}
        }
    }
}

impl State {
    fn note(&self, fetched: Result<KeySet, SourceError>) {
        let mut last = self.last.lock();
        match fetched {
            Ok(keys) => {
                if last.failure.take().is_some() || last.fetched_at.is_none() {
                    tracing::info!(iss = self.iss, keys = keys.count(), "the issuer's keys were fetched");
                }
                last.fetched_at = Some(Instant::now());
                self.keys.store(Some(Arc::new(keys)));
            }
            Err(error) => {
                let failure = error.to_string();
                // Once for each new trouble, not for each attempt.
                if last.failure.as_ref() != Some(&failure) {
                    let known = self.keys.load().as_ref().map_or(0, |keys| keys.count());
                    tracing::warn!(
                        iss = self.iss,
                        failure,
                        known,
                        "the issuer's keys cannot be fetched; known ones stay"
                    );
                }
                last.failure = Some(failure);
            }
        }
    }
}

async fn fetch_keys(
    iss: &str,
    place: &KeySource,
    fetch: &dyn Fetch,
) -> Result<(KeySet, Option<Duration>), SourceError> {
    let until = Instant::now() + FETCH_WITHIN;
    let fetched = match place {
        KeySource::Discovery => discover(iss, fetch, until).await?,
        KeySource::Url(url) => get(url, fetch, until).await?,
        KeySource::File(path) => Fetched { body: read(path.clone()).await?, max_age: None },
        KeySource::Inline(set) => Fetched { body: set.clone().into_bytes(), max_age: Some(REFRESH_EVERY_MAX) },
    };
    Ok((KeySet::parse(&fetched.body)?, fetched.max_age))
}

async fn discover(iss: &str, fetch: &dyn Fetch, until: Instant) -> Result<Fetched, SourceError> {
    let [first, second] = discovery::urls(iss);
    let document = match get(&first, fetch, until).await {
        Err(SourceError::Fetch { error: FetchError::Status(404), .. }) => get(&second, fetch, until).await?,
        other => other?,
    };
    get(&discovery::keys_url(iss, &document.body)?, fetch, until).await
}

async fn get(url: &str, fetch: &dyn Fetch, until: Instant) -> Result<Fetched, SourceError> {
    let fetched = timeout_at(until, fetch.get(url)).await.unwrap_or(Err(FetchError::TooSlow(FETCH_WITHIN)));
    fetched.map_err(|error| SourceError::Fetch { url: url.to_owned(), error })
}

async fn read(path: String) -> Result<Vec<u8>, SourceError> {
    let failed = |error| SourceError::File { path: path.clone(), error };
    let read = |path: String| {
        let mut bytes = Vec::new();
        // Before it is opened: opening a pipe would wait for its other end.
        if !std::fs::metadata(&path)?.is_file() {
            return Err(std::io::Error::other("is no regular file"));
        }
        std::fs::File::open(path)?.take(KEY_SET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let task_path = path.clone();
    spawn_blocking(move || read(task_path)).await.map_err(std::io::Error::other).and_then(|bytes| bytes).map_err(failed)
}
