//! SIGHUP, and the files that are read again for it or because they changed.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::security::watch::{Reloads, Watched, Watcher};

/// SIGHUPs from now on: they no longer end the process. Those that come while one is still to be heard count as one.
#[derive(Debug)]
pub struct Hangups {
    task: JoinHandle<()>,
    wakes: mpsc::Receiver<()>,
}

impl Hangups {
    /// Listens for them: the first thing a node does.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> io::Result<Self> {
        let mut hangups = signal(SignalKind::hangup())?;
        let (wake, wakes) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                // Full: one is to be heard already.
                let _ = wake.try_send(());
            }
        });
        Ok(Self { task, wakes })
    }

    /// Watches what is made of files, and has it read again at each of them.
    #[must_use]
    pub fn watch(self, watched: Vec<Arc<dyn Watched>>) -> Reloading {
        Reloading { hangups: self.task, watcher: Watcher::spawn(watched, self.wakes) }
    }
}

/// Files being watched.
#[derive(Debug)]
pub struct Reloading {
    hangups: JoinHandle<()>,
    watcher: Watcher,
}

impl Reloading {
    /// What was replaced how often.
    #[must_use]
    pub fn reloads(&self) -> Vec<Arc<Reloads>> {
        self.watcher.reloads()
    }

    /// Watches no longer. SIGHUP still does not end the process: its handler stays.
    pub async fn stop(self) {
        self.hangups.abort();
        self.watcher.stop().await;
    }
}
