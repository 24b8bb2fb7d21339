//! Who writes a snapshot: a thread of its own, or whoever asks for it.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::{Done, Job, make};

/// Does one job at a time.
pub(super) enum Worker {
    /// Beside the commit thread, so that it never waits.
    Thread {
        /// `None` once it is to end.
        jobs: Option<SyncSender<Job>>,
        done: Receiver<Done>,
        busy: bool,
        thread: Option<JoinHandle<()>>,
    },
    /// At once, so that a simulation needs no thread.
    Inline { done: Option<Box<Done>> },
}

impl Worker {
    pub(super) fn start() -> std::io::Result<Self> {
        let (jobs, inbox) = sync_channel::<Job>(1);
        let (outbox, done) = sync_channel::<Done>(1);
        let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
            while let Ok(job) = inbox.recv() {
                if outbox.send(make(job)).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self::Thread { jobs: Some(jobs), done, busy: false, thread: Some(thread) })
    }

    pub(super) fn inline() -> Self {
        Self::Inline { done: None }
    }

    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Thread { busy, .. } => !busy,
            Self::Inline { done } => done.is_none(),
        }
    }

    /// Takes a job, or gives it back.
    pub(super) fn begin(&mut self, job: Job) -> Result<(), Box<Job>> {
        match self {
            Self::Thread { jobs: None, .. } => Err(Box::new(job)),
            Self::Thread { jobs: Some(jobs), busy, .. } => match jobs.try_send(job) {
                Ok(()) => {
                    *busy = true;
                    Ok(())
                }
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(Box::new(job)),
            },
            Self::Inline { done } => {
                *done = Some(Box::new(make(job)));
                Ok(())
            }
        }
    }

    /// What came of the job, once.
    pub(super) fn poll(&mut self) -> Option<Done> {
        match self {
            Self::Thread { done, busy, .. } => match done.try_recv() {
                Ok(ended) => {
                    *busy = false;
                    Some(ended)
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
            },
            Self::Inline { done } => done.take().map(|done| *done),
        }
    }

    pub(super) fn stop(&mut self) {
        if let Self::Thread { jobs, thread, .. } = self {
            *jobs = None;
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}
