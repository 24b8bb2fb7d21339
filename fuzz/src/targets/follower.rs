//! The receiving machine between an honest authority and whoever can send it any frame but cannot sign.
//!
//! An input is a list of steps: the authority commits, honest frames arrive in any order, again, spoiled or made up, time
//! passes, connections end. After each step what the follower serves must be exactly what the authority had at the
//! revision that it claims; once it has diverged, at least that.

use std::sync::Arc;
use std::time::Duration;

use rescind::replication::follower::{Action, Follower, FollowerOptions};
use rescind::replication::frames::{NodeId, Subtree, ToSubscriber, WelcomeMode};
use rescind::replication::{FollowerState, Moment};
use rescind::revocation::{Revision, RevocationSet, UnixMillis, UnixSeconds};

use super::authority::{Authority, EPOCH, SUBJECTS, T0, claims, signer};
use super::frames::{decode_from_sender, encode_for_subscriber};
use super::input::Input;
use super::note_accepted;

/// The most steps of one input: what comes behind them is another input.
const STEPS_MAX: usize = 24;
/// The most actions that one step may lead to.
const ACTIONS_MAX: usize = 64;

struct Run {
    authority: Authority,
    follower: Follower,
    served: Option<Arc<RevocationSet>>,
    verified: Revision,
    boot: Duration,
}

pub fn follower(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut options = FollowerOptions::leaf(NodeId([1; 16]), "fuzz", 1);
    options.public_key = Some(signer().public_key());
    options.keeps = input.byte() % 2 == 1;
    options.entries_max = 1000;
    let mut run = Run {
        authority: Authority::new(),
        follower: Follower::new(options),
        served: None,
        verified: Revision(0),
        boot: Duration::ZERO,
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        run.step(&mut input);
        run.carry_out();
        run.check();
    }
}

impl Run {
    fn now(&self) -> Moment {
        Moment { boot: self.boot, wall: UnixMillis(T0 + self.boot.as_millis() as u64) }
    }

    /// A revision of the history, 0 included.
    fn revision(&self, input: &mut Input<'_>) -> Revision {
        Revision(u64::from(input.byte()) % (self.authority.head().0 + 1))
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let now = self.now();
        match input.byte() % 13 {
            0 => self.authority.commit(input.byte() % SUBJECTS, false),
            1 => self.authority.commit(input.byte() % SUBJECTS, true),
            2 => self.follower.handle_connected(now),
            3 => self.follower.handle_disconnect("fuzz"),
            4 => {
                let mode = if input.coin() { WelcomeMode::Snapshot } else { WelcomeMode::Resume };
                self.hear(self.authority.welcome(mode));
            }
            5 => {
                let revision = self.revision(input);
                self.authority.snapshot(revision).into_iter().for_each(|frame| self.hear(frame));
            }
            6 => {
                let (revision, signed) = (self.revision(input), input.coin());
                if revision.0 > 0 {
                    self.hear(self.authority.delta(revision, signed));
                }
            }
            7 => {
                let revision = self.revision(input);
                self.hear(self.authority.heartbeat(revision));
            }
            8 => {
                self.boot += Duration::from_millis(u64::from(input.byte()) * 250);
                self.authority.wall = self.now().wall;
                self.follower.handle_tick(self.now());
            }
            9 => {
                let mut bytes = encode_for_subscriber(&self.some_frame(input));
                input.spoil(&mut bytes);
                decode_from_sender(&bytes).into_iter().for_each(|frame| self.hear(frame));
            }
            10 => decode_from_sender(input.long_block()).into_iter().for_each(|frame| self.hear(frame)),
            11 => {
                let frame = self.some_frame(input);
                self.hear(frame);
            }
            _ => match input.byte() % 2 {
                0 => self.follower.begin_refresh(),
                _ => self.follower.handle_subtree(now, Subtree { subscribers: input.u64(), ..Subtree::default() }),
            },
        }
    }

    /// One frame that the authority might send.
    fn some_frame(&self, input: &mut Input<'_>) -> ToSubscriber {
        let revision = self.revision(input);
        let mut snapshot = self.authority.snapshot(revision);
        match input.byte() % 6 {
            0 => self.authority.welcome(WelcomeMode::Snapshot),
            1 => self.authority.welcome(WelcomeMode::Resume),
            2 if revision.0 > 0 => self.authority.delta(revision, input.coin()),
            3 => snapshot.swap_remove(snapshot.len() - 1),
            4 => snapshot.swap_remove(0),
            5 => snapshot.swap_remove(usize::from(snapshot.len() > 2)),
            _ => self.authority.heartbeat(revision),
        }
    }

    fn hear(&mut self, frame: ToSubscriber) {
        self.follower.handle_frame(self.now(), frame);
    }

    fn carry_out(&mut self) {
        for _ in 0..ACTIONS_MAX {
            match self.follower.poll_action() {
                None => return,
                Some(Action::Swap(swap)) => {
                    assert_eq!(swap.epoch, EPOCH, "nobody can sign for another epoch");
                    self.served = Some(swap.set);
                }
                Some(Action::Rebuild(rebuild)) => rebuild.run(),
                Some(_) => {}
            }
        }
        panic!("one step leads to more than {ACTIONS_MAX} actions");
    }

    fn check(&mut self) {
        let status = self.follower.status();
        let Some(served) = &self.served else {
            return assert_eq!(status.epoch, None, "what is held is served");
        };
        note_accepted();
        assert!(status.revision >= self.verified, "a position never goes back within an epoch");
        self.verified = status.revision;
        assert!(status.revision <= self.authority.head(), "nothing is verified that the authority did not sign");
        let honest = self.authority.at(status.revision);
        assert_eq!(status.digest, honest.digest);
        let diverged = status.state == FollowerState::Diverged;
        for subject in 0..SUBJECTS {
            let found = served.check(&claims(subject), UnixSeconds(T0 / 1000)).hit.is_some();
            let live = honest.live.values().any(|live| *live == subject);
            assert!(found || !live, "a live revocation was lost at revision {}", status.revision);
            assert!(diverged || found == live, "a revocation was invented at revision {}", status.revision);
        }
    }
}
