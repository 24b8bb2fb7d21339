//! A follower with what hangs on it: the handle that readers share, and the keepers. Without I/O.
//!
//! [`super::Driver`] runs one on a task; simulations run it by hand.
//!
//! # Call order
//! As [`Follower`]'s, with [`Following::poll`] in the place of its `poll_action`.

use std::sync::Arc;

use super::handle::{LocalPolicy, Replica, Residue};
use super::keep::Keep;
use crate::clock::Clock;
use crate::replication::follower::{Action, CacheFault, DisconnectReason, Follower, FollowerOptions, Kept};
use crate::replication::frames::Welcome;

/// Tells readers and keepers what the follower wants published, and the driver everything else.
pub struct Following {
    /// The state machine: to be handed what happens.
    pub follower: Follower,
    replica: Arc<Replica>,
    keepers: Vec<Box<dyn Keep>>,
    /// The generations of the sets of earlier epochs in force when last looked at.
    residues: Vec<u64>,
    /// The server tried last, by its place in the list.
    server: Option<usize>,
    /// That one is to be tried again.
    stays: bool,
    /// The server asked last whether it heard the authority later.
    asked: usize,
    /// That one did, and is tried next.
    moves: bool,
}

impl Following {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(options: FollowerOptions, clock: Clock) -> Self {
        let local = LocalPolicy {
            staleness: options.local_policy,
            lifetime: options.lifetime_policy,
            break_glass: options.break_glass,
        };
        let follower = Follower::new(options);
        let replica = Arc::new(Replica::new(follower.status(), local, clock));
        Self {
            follower,
            replica,
            keepers: Vec::new(),
            residues: Vec::new(),
            server: None,
            stays: false,
            asked: 0,
            moves: false,
        }
    }

    /// Begins from what an earlier process kept, as far as it proves itself; before the first [`Following::poll`].
    /// `residues` are the sets of earlier epochs that stay in force, with their generations; `lost`: there were more.
    /// What is not used is returned, each with its generation.
    pub fn begin_from(
        &mut self,
        kept: Option<Kept>,
        residues: Vec<(u64, Kept)>,
        mut lost: bool,
        entries_max: u64,
    ) -> Vec<(u64, CacheFault)> {
        // Which epochs were lost is not known: any before the one followed, all of them if there is none.
        let before = kept.as_ref().map_or(u64::MAX, |kept| kept.descent.epoch.generation.saturating_sub(1));
        let mut faults = Vec::new();
        let mut sets = Vec::with_capacity(residues.len());
        for (generation, kept) in residues {
            match kept.verified_set(entries_max) {
                Ok(set) => sets.push(Residue::new(set, generation)),
                Err(fault) => {
                    faults.push((generation, fault));
                    lost = true;
                }
            }
        }
        self.replica.load_residues(sets, lost.then_some(before));
        self.residues = self.replica.residues();
        if let Some(kept) = kept {
            let generation = kept.descent.epoch.generation;
            faults.extend(self.follower.handle_cache(kept).err().map(|fault| (generation, fault)));
        }
        faults
    }

    /// Tells another keeper from now on; before the first [`Following::poll`].
    pub fn add_keeper(&mut self, keeper: Box<dyn Keep>) {
        self.keepers.push(keeper);
    }

    /// What readers share.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// The server to connect to now, of a list of so many: the next one, or for a newer snapshot the one that was followed;
    /// `None` when there are none.
    pub fn next_server(&mut self, servers: usize) -> Option<usize> {
        let (stays, moves) = (std::mem::take(&mut self.stays), std::mem::take(&mut self.moves));
        let next = self.server.map_or(0, |server| if stays { server } else { server + 1 });
        self.server = if moves { self.asked } else { next }.checked_rem(servers);
        self.server
    }

    /// The server to ask now whether it heard the authority later: the next one of the others; `None` when there are none.
    pub fn next_asked(&mut self, servers: usize) -> Option<usize> {
        let followed = self.server.filter(|_| servers > 1)?;
        self.asked = (self.asked + 1) % servers;
        if self.asked == followed {
            self.asked = (self.asked + 1) % servers;
        }
        Some(self.asked)
    }

    /// The server that was asked answered; if it heard the authority later, it is the next one.
    pub fn handle_probed(&mut self, welcome: &Welcome) {
        self.moves = self.follower.handle_probed(self.replica.now(), welcome);
    }

    /// The server that is followed, or was tried last.
    #[must_use]
    pub fn server(&self) -> Option<usize> {
        self.server
    }

    /// Time passed.
    pub fn handle_tick(&mut self) {
        self.follower.handle_tick(self.replica.now());
        if self.keepers.iter_mut().any(|keeper| keeper.wants_refresh()) {
            self.follower.begin_refresh();
        }
    }

    /// What to do next. Readers and keepers have been told what it means for them.
    pub fn poll(&mut self) -> Option<Action> {
        let action = self.follower.poll_action()?;
        match &action {
            Action::Swap(swap) => {
                let status = self.follower.status();
                self.replica.publish(Some(swap), status);
                self.keepers.iter_mut().for_each(|keeper| keeper.handle_swap(swap, &status));
            }
            Action::Publish(status) => {
                self.replica.publish(None, *status);
                self.keepers.iter_mut().for_each(|keeper| keeper.handle_status(status));
                self.watch_residues();
            }
            Action::Verified(verified) => {
                let staleness = self.follower.status().staleness(self.replica.now());
                self.keepers.iter_mut().for_each(|keeper| keeper.handle_verified(verified, staleness));
            }
            // Others may have no newer one, and it asks for everything only once.
            Action::Disconnect { reason } => self.stays = *reason == DisconnectReason::Refresh,
            _ => {}
        }
        Some(action)
    }

    /// What kept things so far, for an end in order: they may have to wait for the disk.
    pub fn take_keepers(&mut self) -> Vec<Box<dyn Keep>> {
        std::mem::take(&mut self.keepers)
    }

    /// Says which sets of earlier epochs are still in force, when one was let go.
    fn watch_residues(&mut self) {
        let residues = self.replica.residues();
        if residues != self.residues {
            self.keepers.iter_mut().for_each(|keeper| keeper.handle_residues(&residues));
            self.residues = residues;
        }
    }
}
