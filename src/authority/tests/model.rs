//! The state equals a model that keeps every revocation, whatever is revoked, reinstated or expires, in any order.

use proptest::prelude::*;

use crate::authority::ledger::Place;
use crate::authority::stage::Stage;
use crate::authority::state::State;
use crate::journal::{Action, ExpiryBasis, Reinstatement, Request, Revocation};
use crate::revocation::{
    Claims, Cutoff, Epoch, Mark, Minute, Policy, Revision, RevocationSet, Selector, SetKey, SetWriter, TestedClaim,
    UnixMillis, UnixSeconds,
};

const NOW: UnixSeconds = UnixSeconds(1000);
const SUBJECTS: [&str; 2] = ["alice", "bob"];
const SESSIONS: [&str; 3] = ["s0", "s1", "s2"];
const TESTED: [TestedClaim; 2] = [TestedClaim::Iat, TestedClaim::AuthTime];

#[derive(Clone, Debug)]
enum Op {
    Revoke { subject: usize, tested: usize, cutoff: u64, expiry: u32, spares: Vec<usize> },
    UndoOne { nth: usize },
    UndoAll { subject: usize, tested: usize },
    Floor { minutes: u32 },
}

#[derive(Clone, Debug)]
struct Presented {
    subject: usize,
    session: Option<usize>,
    iat: Option<u64>,
    auth_time: Option<u64>,
}

/// A revocation that the model keeps.
#[derive(Clone, Debug)]
struct Kept {
    place: Place,
    cutoff: u64,
    expiry: u32,
    spares: Vec<usize>,
}

/// Every revocation of each selector since its entry was last absent.
#[derive(Default)]
struct Model {
    groups: [[Vec<Kept>; 2]; 2],
    floor: u32,
}

impl Model {
    fn is_live(&self, subject: usize, tested: usize) -> bool {
        self.groups[subject][tested].iter().any(|kept| kept.expiry > self.floor)
    }

    fn revoke(&mut self, subject: usize, tested: usize, kept: Kept) {
        if !self.is_live(subject, tested) {
            self.groups[subject][tested].clear();
        }
        self.groups[subject][tested].push(kept);
    }

    /// What is undone goes, and with it what had expired by itself.
    fn undo(&mut self, subject: usize, tested: usize, place: Place) -> bool {
        let (live, floor) = (self.is_live(subject, tested), self.floor);
        let group = &mut self.groups[subject][tested];
        let there = live && group.iter().any(|kept| kept.place == place && kept.expiry > floor);
        if there {
            group.retain(|kept| kept.place != place && kept.expiry > floor);
        }
        there
    }

    fn revokes(&self, token: &Presented) -> bool {
        (0..2).any(|tested| {
            let time = if tested == 0 { token.iat } else { token.auth_time };
            let group = &self.groups[token.subject][tested];
            let reached = group.iter().any(|kept| {
                token.session.is_none_or(|session| !kept.spares.contains(&session))
                    && time.is_none_or(|time| time <= kept.cutoff)
            });
            self.is_live(token.subject, tested) && reached
        })
    }
}

fn selector(subject: usize, tested: usize) -> Selector {
    Selector::new([("sub", SUBJECTS[subject])], TESTED[tested]).unwrap()
}

fn session(index: usize) -> Selector {
    Selector::new([("sid", SESSIONS[index])], TestedClaim::Iat).unwrap()
}

fn claims(token: &Presented) -> Claims {
    let mut claims = Claims::new();
    claims.push("sub", SUBJECTS[token.subject], false);
    if let Some(session) = token.session {
        claims.push("sid", SESSIONS[session], false);
    }
    claims.iat = token.iat.map(UnixSeconds);
    claims.auth_time = token.auth_time.map(UnixSeconds);
    claims.exp = Some(NOW.plus(60));
    claims
}

fn request(action: Action) -> Request {
    Request {
        principal: "tester".into(),
        peer: "local".into(),
        request_id: None,
        body_hash: [0; 32],
        received_at: UnixMillis(0),
        action,
    }
}

fn revocation(key: &SetKey, selector: Selector, kept: &Kept) -> Revocation {
    let exceptions: Vec<Selector> = kept.spares.iter().map(|index| session(*index)).collect();
    Revocation {
        selector,
        mark: Mark {
            cutoff: Cutoff::at(UnixSeconds(kept.cutoff)).unwrap(),
            expiry: Minute::at(kept.expiry).unwrap(),
            spares: exceptions.iter().map(|e| (e.shape(), key.fingerprint(e))).collect(),
        },
        exceptions,
        expiry_basis: ExpiryBasis::Given,
        reason: String::new(),
        already_expired: false,
        merged: false,
    }
}

/// The state under test, a replica that applies its deltas, and the model.
struct Trial {
    state: State,
    replica: SetWriter,
    model: Model,
    accepted: Vec<(usize, usize, Place)>,
}

impl Trial {
    fn new() -> Self {
        let key = SetKey::new([7; 16]);
        let floor = Minute::default();
        let (replica, _) = RevocationSet::create(key.clone(), Policy::default(), floor);
        let state = State::empty(Epoch { generation: 1, id: [1; 16] }, key, Policy::default(), floor);
        Self { state, replica, model: Model::default(), accepted: Vec::new() }
    }

    fn run(&mut self, op: &Op) {
        let floor = match op {
            Op::Floor { minutes } => self.model.floor + minutes,
            _ => self.model.floor,
        };
        self.model.floor = floor;
        let mut stage = Stage::new(&self.state, UnixMillis(0), Minute::at(floor).unwrap());
        match op {
            Op::Floor { .. } => {}
            Op::Revoke { subject, tested, cutoff, expiry, spares } => {
                let place = Place { revision: self.state.revision().next(), index: 0 };
                let kept = Kept { place, cutoff: *cutoff, expiry: floor + expiry, spares: spares.clone() };
                let action = revocation(self.state.key(), selector(*subject, *tested), &kept);
                let accepted = stage.request(&request(Action::Revoke(vec![action])));
                assert_eq!(accepted[0].merged, self.model.is_live(*subject, *tested));
                self.model.revoke(*subject, *tested, kept);
                self.accepted.push((*subject, *tested, place));
            }
            Op::UndoOne { nth } => {
                let Some((subject, tested, place)) = self.accepted.get(nth % self.accepted.len().max(1)) else {
                    return;
                };
                let selector = selector(*subject, *tested);
                let only = Some(self.state.id(*place));
                let undone = stage.undoable(&selector, only);
                assert_eq!(!undone.is_empty(), self.model.undo(*subject, *tested, *place));
                let reinstatement = Reinstatement { selector, only, undone, reason: String::new() };
                stage.request(&request(Action::Reinstate(vec![reinstatement])));
            }
            Op::UndoAll { subject, tested } => {
                let selector = selector(*subject, *tested);
                let undone = stage.undoable(&selector, None);
                self.model.groups[*subject][*tested].clear();
                let reinstatement = Reinstatement { selector, only: None, undone, reason: String::new() };
                stage.request(&request(Action::Reinstate(vec![reinstatement])));
            }
        }
        let transition = stage.finish().unwrap();
        let _ = self.replica.apply(&transition.delta).unwrap();
        let _ = self.state.install(&transition).unwrap();
    }

    fn judge(&self, token: &Presented) {
        let expected = self.model.revokes(token);
        for set in [self.state.set(), self.replica.set()] {
            let finding = set.check(&claims(token), NOW);
            assert_eq!(finding.hit.is_some(), expected, "{token:?}: {finding:?}");
        }
        let live = (0..4).filter(|i| self.model.is_live(i / 2, i % 2)).count() as u64;
        assert_eq!(self.state.set().entries(), live);
        assert_eq!(self.state.shapes().live_beyond(self.state.floor()), live);
        assert!(self.state.shapes().active().eq(self.state.set().shapes().iter()));
    }
}

fn op() -> impl Strategy<Value = Op> {
    let revoke = (0..2usize, 0..2usize, 0..12u64, 1..20u32, prop::collection::hash_set(0..3usize, 0..3)).prop_map(
        |(subject, tested, cutoff, expiry, spares)| Op::Revoke {
            subject,
            tested,
            cutoff,
            expiry,
            spares: spares.into_iter().collect(),
        },
    );
    prop_oneof![
        6 => revoke,
        2 => (0..64usize).prop_map(|nth| Op::UndoOne { nth }),
        1 => (0..2usize, 0..2usize).prop_map(|(subject, tested)| Op::UndoAll { subject, tested }),
        1 => (1..8u32).prop_map(|minutes| Op::Floor { minutes }),
    ]
}

fn token() -> impl Strategy<Value = Presented> {
    let time = || prop::option::of(0..14u64);
    (0..2usize, prop::option::of(0..3usize), time(), time()).prop_map(|(subject, session, iat, auth_time)| Presented {
        subject,
        session,
        iat,
        auth_time,
    })
}

proptest! {
    #[test]
    fn the_state_equals_a_model_that_keeps_every_revocation(
        ops in prop::collection::vec(op(), 1..40),
        tokens in prop::collection::vec(token(), 16),
    ) {
        let mut trial = Trial::new();
        for op in &ops {
            trial.run(op);
            tokens.iter().for_each(|token| trial.judge(token));
        }
    }

    #[test]
    fn order_and_duplication_of_revokes_do_not_matter(
        ops in prop::collection::vec(op(), 1..24).prop_map(|ops| {
            ops.into_iter().filter(|op| matches!(op, Op::Revoke { .. })).collect::<Vec<_>>()
        }),
        order in prop::collection::vec(any::<prop::sample::Index>(), 64),
    ) {
        prop_assume!(!ops.is_empty());
        let mut straight = Trial::new();
        ops.iter().for_each(|op| straight.run(op));
        let mut shuffled = Trial::new();
        order.iter().for_each(|index| shuffled.run(index.get(&ops)));
        ops.iter().rev().for_each(|op| shuffled.run(op));
        prop_assert_eq!(straight.state.digest(), shuffled.state.digest());
        prop_assert_eq!(straight.state.revision() <= shuffled.state.revision(), true);
        prop_assert_ne!(straight.state.revision(), Revision(0));
    }
}
