//! Writers that remember what was acknowledged, and by when: against a server that is going to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rescind::wire::pb;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tonic::Status;

use super::Random;
use super::caller::{Caller, Outcome, claims, revocation, selector};

/// The most tokens in one check.
const CHECK_TOKENS_MAX: usize = 1000;
/// How long a load may take to come as far as it is waited for.
const LOAD_LIMIT: Duration = Duration::from_secs(60);

/// What became of one revocation, each by a mark: what [`Load::mark`] said at that time.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) jti: String,
    /// It was acknowledged.
    pub(crate) revoked: u64,
    /// It was about to be reinstated.
    reinstating: Option<u64>,
    /// That was acknowledged.
    reinstated: Option<u64>,
}

impl Fate {
    /// Whether nothing more was asked for it after `mark`.
    pub(crate) fn is_settled(&self, mark: u64) -> bool {
        self.reinstating.is_none_or(|begun| begun <= mark)
    }

    /// What a check must say where everything up to `mark` is there, and what came later may be. `None`: anything.
    fn expected(&self, mark: u64) -> Option<Outcome> {
        let before = |at: Option<u64>| at.is_some_and(|at| at <= mark);
        match () {
            () if before(self.reinstated) => Some(Outcome::NotRevoked),
            () if before(self.reinstating) || self.revoked > mark => None,
            () => Some(Outcome::Revoked),
        }
    }
}

/// What the writers share.
pub(crate) struct Load {
    acknowledged: AtomicUsize,
    progress: Notify,
    stopped: AtomicBool,
    mark: Box<dyn Fn() -> u64 + Send + Sync>,
    /// The most revocations in one request.
    items_max: u64,
}

/// Writers at work.
pub(crate) struct Writers {
    load: Arc<Load>,
    tasks: JoinSet<(Vec<Fate>, Option<Status>)>,
}

impl Writers {
    /// Lets `count` of them write until they are refused or stopped. `mark` tells how far something else has come.
    pub(crate) fn start(
        caller: impl Fn() -> Caller,
        count: usize,
        items_max: u64,
        random: &mut Random,
        mark: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let load = Arc::new(Load {
            acknowledged: AtomicUsize::new(0),
            progress: Notify::new(),
            stopped: AtomicBool::new(false),
            mark: Box::new(mark),
            items_max,
        });
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            tasks.spawn(write(caller(), Arc::clone(&load), random.fork()));
        }
        Self { load, tasks }
    }

    /// Waits until so many requests were acknowledged, or all writers were refused.
    pub(crate) async fn until(&self, acknowledged: usize) {
        let reached = async {
            loop {
                let progress = self.load.progress.notified();
                let stuck = self.load.stopped.load(Ordering::SeqCst);
                if stuck || self.load.acknowledged.load(Ordering::SeqCst) >= acknowledged {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(LOAD_LIMIT, reached).await.expect("writes are acknowledged or refused");
    }

    /// Stops them; what was acknowledged, and why writers ended that were not told to.
    pub(crate) async fn stop(mut self) -> (Vec<Fate>, Vec<Status>) {
        self.load.stopped.store(true, Ordering::SeqCst);
        let (mut fates, mut refusals) = (Vec::new(), Vec::new());
        while let Some(ended) = self.tasks.join_next().await {
            let (own, refusal) = ended.unwrap();
            fates.extend(own);
            refusals.extend(refusal);
        }
        (fates, refusals)
    }
}

/// Subscribers that come and go, one after the other: what is written of them is written beside revocations.
pub(crate) struct Visitors {
    task: JoinHandle<()>,
    came: Arc<AtomicUsize>,
}

impl Visitors {
    pub(crate) fn start(url: String) -> Self {
        let came = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&came);
        let task = tokio::spawn(async move {
            loop {
                let name = format!("visitor {}", count.load(Ordering::SeqCst));
                let visitor = super::guard::client([url.clone()]).name(name).connect().unwrap();
                if visitor.ready(LOAD_LIMIT).await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                visitor.shutdown().await;
            }
        });
        Self { task, came }
    }

    /// No more of them; how many came.
    pub(crate) async fn stop(self) -> usize {
        self.task.abort();
        let _ = self.task.await;
        self.came.load(Ordering::SeqCst)
    }
}

async fn write(caller: Caller, load: Arc<Load>, mut random: Random) -> (Vec<Fate>, Option<Status>) {
    let mut fates: Vec<Fate> = Vec::new();
    while !load.stopped.load(Ordering::SeqCst) {
        let standing = fates.iter().position(|fate| fate.reinstating.is_none());
        let written = match standing {
            Some(index) if random.from(0..5) == 0 => reinstate(&caller, &load, &mut fates[index]).await,
            _ => revoke(&caller, &load, &mut random, &mut fates).await,
        };
        if let Err(status) = written {
            load.stopped.store(true, Ordering::SeqCst);
            load.progress.notify_waiters();
            return (fates, Some(status));
        }
        load.acknowledged.fetch_add(1, Ordering::SeqCst);
        load.progress.notify_waiters();
    }
    (fates, None)
}

async fn revoke(caller: &Caller, load: &Load, random: &mut Random, fates: &mut Vec<Fate>) -> Result<(), Status> {
    let count = random.from(1..load.items_max + 1);
    let jtis: Vec<String> = (0..count).map(|_| format!("{:016x}", random.next())).collect();
    caller.revoke(jtis.iter().map(|jti| revocation(&[("jti", jti)])).collect()).await?;
    let revoked = (load.mark)();
    fates.extend(jtis.into_iter().map(|jti| Fate { jti, revoked, reinstating: None, reinstated: None }));
    Ok(())
}

async fn reinstate(caller: &Caller, load: &Load, fate: &mut Fate) -> Result<(), Status> {
    use pb::reinstatement::Target;
    fate.reinstating = Some((load.mark)());
    let target = Some(Target::Selector(selector(&[("jti", &fate.jti)])));
    let reinstatements = vec![pb::Reinstatement { target, cutoff_on: 0 }];
    let request = pb::ReinstateRequest { reinstatements, ..pb::ReinstateRequest::default() };
    caller.revocations().reinstate(request).await?;
    fate.reinstated = Some((load.mark)());
    Ok(())
}

/// Panics unless everything that was acknowledged up to `mark` is as it was acknowledged. How many were judged.
pub(crate) async fn assert_nothing_lost(caller: &Caller, fates: &[Fate], mark: u64, where_: &str) -> usize {
    let mut judged = 0;
    let expected: Vec<(&Fate, Outcome)> = fates.iter().filter_map(|fate| Some((fate, fate.expected(mark)?))).collect();
    for some in expected.chunks(CHECK_TOKENS_MAX) {
        let presented = |jti: &str| pb::PresentedToken { presented: Some(claims(&json!({ "jti": jti }))) };
        let tokens = some.iter().map(|(fate, _)| presented(&fate.jti)).collect();
        let request = pb::CheckTokensRequest { tokens, at_least: None };
        let responses = caller.checks().check_tokens(request).await.unwrap().into_inner().responses;
        for ((fate, expected), response) in some.iter().zip(&responses) {
            // An id, and no iat: beyond the horizon by itself where nothing is found.
            let found = match Outcome::of(response) {
                Outcome::Revoked => Outcome::Revoked,
                _ => Outcome::NotRevoked,
            };
            assert_eq!(found, *expected, "{where_}, mark {mark}: {fate:?}");
            judged += 1;
        }
    }
    judged
}
