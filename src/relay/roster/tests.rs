//! A fleet on the move: leaves, relays, a relay below a relay, and an authority that restarts, checked against what is true.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualTime;
use crate::replication::fleet::Place;
use crate::replication::frames::{ProtocolRange, Role, ToServer};
use crate::revocation::{Digest, Revision, UnixMillis};
use crate::wire::pb;

const EPOCH: [u8; 16] = [7; 16];
const LEAVES: usize = 5;
/// The authority is 0; the relays 1 and 2 are connected to it, 3 to 1.
const NODES: usize = 4;
const UPSTREAM: [usize; NODES] = [0, 0, 0, 1];

fn node_id(node: usize) -> NodeId {
    NodeId([0xa0 + node as u8; 16])
}

fn leaf_id(leaf: usize) -> NodeId {
    NodeId([1 + leaf as u8; 16])
}

fn hello(id: NodeId, role: Role) -> Hello {
    Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: id,
        name: String::new(),
        role,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: false,
        policy: None,
    }
}

fn ack() -> Ack {
    Ack {
        applied: Revision(1),
        digest: Digest::default(),
        ready: true,
        policy: None,
        subtree: None,
        source_time: UnixMillis(0),
    }
}

/// Where a leaf is, truly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    /// It never was anywhere, or said goodbye.
    Nowhere,
    At {
        node: usize,
        seat: u64,
    },
    /// It was killed, or its relay was.
    CutOff,
}

struct RelayNode {
    below: Arc<Below>,
    seats: Arc<dyn Members>,
    /// Its seat at its upstream, while it is connected.
    seat: Option<u64>,
    /// On their way.
    parts: VecDeque<Roster>,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Join {
        leaf: usize,
        node: usize,
    },
    Kill(usize),
    Goodbye(usize),
    Cut(usize),
    Connect(usize),
    Restart(usize),
    RestartAuthority,
    /// So many parts leave a relay, and so many come through.
    Pass {
        relay: usize,
        sent: usize,
        taken: usize,
    },
    /// All that can be told comes through.
    PassAll,
}

struct World {
    time: Arc<ManualTime>,
    authority: Fleet,
    relays: Vec<RelayNode>,
    leaves: [Truth; LEAVES],
    numbers: u64,
}

impl World {
    fn new() -> Self {
        let time = ManualTime::starting_at(UnixMillis(1_700_000_000_000));
        let mut world =
            Self { authority: new_authority(), relays: Vec::new(), leaves: [Truth::Nowhere; LEAVES], numbers: 0, time };
        world.relays = (1..NODES).map(|node| world.new_relay(node)).collect();
        (1..NODES).for_each(|node| world.connect(node));
        world
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn new_relay(&mut self, node: usize) -> RelayNode {
        let memory = self.number();
        let below = Below::new(node_id(node), memory, Clock::manual(Arc::clone(&self.time)));
        RelayNode { seats: below.seats(EPOCH), below, seat: None, parts: VecDeque::new() }
    }

    fn now(&self) -> Moment {
        let clock = Clock::manual(Arc::clone(&self.time));
        Moment { boot: clock.boot().0, wall: clock.wall() }
    }

    fn arrive(&mut self, node: usize, id: NodeId, role: Role) -> u64 {
        let (seat, now) = (self.number(), self.now());
        if node == 0 {
            assert!(
                self.authority
                    .handle_hello(now, seat, &"".into(), &hello(id, role), PolicyInForce::of(&Policy::default()))
                    .unwrap()
            );
            self.authority.handle_ack(seat, id, &ack());
        } else {
            let seats = &self.relays[node - 1].seats;
            assert!(seats.handle_hello(seat, &"".into(), &hello(id, role)).unwrap().is_none());
            seats.handle_ack(seat, id, &ack());
        }
        seat
    }

    fn leave(&mut self, node: usize, seat: u64, id: NodeId, goodbye: bool) {
        let now = self.now();
        if node == 0 {
            self.authority.handle_leave(now, seat, id, goodbye);
        } else {
            self.relays[node - 1].seats.handle_leave(seat, id, goodbye);
        }
    }

    fn connect(&mut self, relay: usize) {
        if self.relays[relay - 1].seat.is_none() {
            let seat = self.arrive(UPSTREAM[relay], node_id(relay), Role::Relay);
            self.relays[relay - 1].seat = Some(seat);
            self.relays[relay - 1].below.begin();
        }
    }

    fn cut(&mut self, relay: usize) {
        self.relays[relay - 1].parts.clear();
        if let Some(seat) = self.relays[relay - 1].seat.take() {
            self.leave(UPSTREAM[relay], seat, node_id(relay), false);
        }
    }

    fn pass(&mut self, relay: usize, sent: usize, taken: usize) {
        let node = &mut self.relays[relay - 1];
        let Some(seat) = node.seat else { return };
        node.parts.extend((0..sent).map_while(|_| node.below.next_part()));
        let taken = taken.min(node.parts.len());
        let parts: Vec<Roster> = node.parts.drain(..taken).collect();
        for part in parts {
            let now = self.now();
            let taken = match UPSTREAM[relay] {
                0 => self.authority.handle_roster(now, seat, node_id(relay), &part),
                above => self.relays[above - 1].seats.handle_roster(seat, node_id(relay), &part),
            };
            assert_eq!(taken, Ok(()));
        }
    }

    fn settle(&mut self) {
        (1..NODES).for_each(|relay| self.connect(relay));
        // Positions that nobody waits for are told as well, which mends what two relays told at once.
        for _ in 0..3 {
            self.time.advance(REFRESH_INTERVAL);
            for leaf in 0..LEAVES {
                match self.leaves[leaf] {
                    Truth::At { node: 0, seat } => self.authority.handle_ack(seat, leaf_id(leaf), &ack()),
                    Truth::At { node, seat } => self.relays[node - 1].seats.handle_ack(seat, leaf_id(leaf), &ack()),
                    _ => {}
                }
            }
            self.pass_all();
        }
    }

    fn pass_all(&mut self) {
        for relay in (1..NODES).rev() {
            if self.relays[relay - 1].seat.is_none() {
                continue;
            }
            while self.relays[relay - 1].below.is_pending() || !self.relays[relay - 1].parts.is_empty() {
                self.pass(relay, 9, 9);
            }
        }
    }

    fn is_told_all(&self) -> bool {
        self.relays.iter().all(|relay| relay.seat.is_some() && relay.parts.is_empty() && !relay.below.is_pending())
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Join { leaf, node } => {
                let id = leaf_id(leaf);
                if let Truth::At { node, seat } = self.leaves[leaf] {
                    self.leave(node, seat, id, false);
                }
                let seat = self.arrive(node, id, Role::Leaf);
                self.leaves[leaf] = Truth::At { node, seat };
            }
            Op::Kill(leaf) | Op::Goodbye(leaf) => {
                let Truth::At { node, seat } = self.leaves[leaf] else { return };
                let goodbye = matches!(op, Op::Goodbye(_));
                self.leave(node, seat, leaf_id(leaf), goodbye);
                self.leaves[leaf] = if goodbye { Truth::Nowhere } else { Truth::CutOff };
            }
            Op::Cut(relay) => self.cut(relay),
            Op::Connect(relay) => self.connect(relay),
            Op::Restart(relay) => {
                self.cut(relay);
                // What is connected to it is cut off, as it is to whoever it told.
                for below in (1..NODES).filter(|below| UPSTREAM[*below] == relay) {
                    self.relays[below - 1].seat = None;
                    self.relays[below - 1].parts.clear();
                }
                for truth in &mut self.leaves {
                    if matches!(truth, Truth::At { node, .. } if *node == relay) {
                        *truth = Truth::CutOff;
                    }
                }
                self.relays[relay - 1] = self.new_relay(relay);
            }
            Op::RestartAuthority => {
                let kept: Vec<_> = self.authority.members().filter_map(|(id, _)| self.authority.kept(id)).collect();
                let now = self.now();
                self.authority = new_authority();
                self.authority.restore(now, kept);
                for relay in [1, 2] {
                    self.relays[relay - 1].seat = None;
                    self.relays[relay - 1].parts.clear();
                }
                for truth in &mut self.leaves {
                    if matches!(truth, Truth::At { node: 0, .. }) {
                        *truth = Truth::CutOff;
                    }
                }
            }
            Op::Pass { relay, sent, taken } => self.pass(relay, sent, taken),
            Op::PassAll => self.pass_all(),
        }
    }

    /// Where the authority has a leaf: its relay, and whether it is connected.
    fn believed(&self, leaf: usize) -> Option<(usize, bool)> {
        let found = self.authority.members().find(|(id, _)| *id == leaf_id(leaf));
        found.map(|(_, member)| {
            let parent = (1..NODES).find(|node| member.parent() == Some(node_id(*node))).unwrap_or(0);
            (parent, member.place() != Place::CutOff)
        })
    }
}

fn new_authority() -> Fleet {
    let mut fleet = Fleet::new(None, 100_000);
    fleet.set_epoch(EPOCH);
    fleet
}

fn moves() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..LEAVES, 0..NODES).prop_map(|(leaf, node)| Op::Join { leaf, node }),
        2 => (0..LEAVES).prop_map(Op::Kill),
        1 => (0..LEAVES).prop_map(Op::Goodbye),
    ]
}

fn anything() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => moves(),
        1 => (1..NODES).prop_map(Op::Cut),
        1 => (1..NODES).prop_map(Op::Connect),
        1 => (1..NODES).prop_map(Op::Restart),
        1 => Just(Op::RestartAuthority),
        2 => Just(Op::PassAll),
        6 => (1..NODES, 0..3usize, 0..4usize).prop_map(|(relay, sent, taken)| Op::Pass { relay, sent, taken }),
    ]
}

#[test]
fn everybody_is_told_in_parts() {
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(1_700_000_000_000)));
    let below = Below::new(node_id(1), 1, clock);
    let seats = below.seats(EPOCH);
    for seat in 1..=400u64 {
        let hello = hello(NodeId(u128::from(seat).to_be_bytes()), Role::Leaf);
        assert!(seats.handle_hello(seat, &"10.0.0.1:1".into(), &hello).unwrap().is_none());
    }
    below.begin();
    (1..=200u64).for_each(|seat| seats.handle_leave(seat, NodeId(u128::from(seat).to_be_bytes()), true));
    (201..=210u64).for_each(|seat| seats.handle_leave(seat, NodeId(u128::from(seat).to_be_bytes()), false));
    let (mut entries, mut gone, mut parts) = (Vec::new(), Vec::new(), 0);
    while let Some(part) = below.next_part() {
        assert_eq!(part.begins, parts == 0);
        assert_eq!(part.complete.is_some(), !below.is_pending());
        parts += 1;
        entries.extend(part.entries);
        gone.extend(part.gone);
    }
    assert_eq!((entries.len(), gone.len()), (200, 200));
    assert_eq!(entries.iter().filter(|entry| !entry.connected).count(), 10);
    assert!(parts > 1, "{parts}");
}

/// Everything that is told now.
fn told(below: &Below) -> Vec<Roster> {
    std::iter::from_fn(|| below.next_part()).collect()
}

#[test]
fn too_many_that_are_cut_off_are_left_to_the_authority() {
    let time = ManualTime::starting_at(UnixMillis(1_700_000_000_000));
    let below = Below::new(node_id(1), 1, Clock::manual(Arc::clone(&time)));
    let seats = below.seats(EPOCH);
    let mut authority = new_authority();
    let now = Moment { boot: Duration::ZERO, wall: UnixMillis(0) };
    let relay = hello(node_id(1), Role::Relay);
    assert!(authority.handle_hello(now, 1, &"".into(), &relay, PolicyInForce::LOOSEST).unwrap());
    let mut hear = |below: &Below| {
        told(below).iter().for_each(|part| authority.handle_roster(now, 1, node_id(1), part).unwrap());
        (authority.members().count(), authority.cut_off())
    };
    let id = |seat: u64| NodeId(u128::from(seat).to_be_bytes());
    let many = CUT_OFF_MAX + 2;
    (1..=many).for_each(|seat| drop(seats.handle_hello(seat, &"".into(), &hello(id(seat), Role::Leaf)).unwrap()));
    (2..=many).for_each(|seat| seats.handle_leave(seat, id(seat), false));
    assert_eq!(hear(&below), (many as usize + 1, many - 1));
    time.advance(REFRESH_INTERVAL);
    assert_eq!(told(&below), []);
    // One that went a moment ago may not have been heard of.
    drop(seats.handle_hello(many + 1, &"".into(), &hello(id(many + 1), Role::Leaf)).unwrap());
    seats.handle_leave(many + 1, id(many + 1), false);
    assert_eq!(hear(&below), (many as usize + 2, many));
    time.advance(REFRESH_INTERVAL);
    below.subtree();
    assert!(below.is_pending(), "everything is told again");
    let listed = below.book.lock().fleet.members().count();
    assert_eq!(listed, 2, "who is connected, and who went last");
    assert_eq!(hear(&below), (many as usize + 2, many), "they are missed all the same");
    assert_eq!(below.book.lock().memory, 2);
}

#[test]
fn large_entries_stay_below_what_a_message_may_be() {
    use prost::Message as _;
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(1_700_000_000_000)));
    let below = Below::new(node_id(1), u64::MAX, clock);
    let seats = below.seats(EPOCH);
    for seat in 1..=100u64 {
        let hello = Hello {
            name: "x".repeat(128),
            version: "x".repeat(64),
            reconnect_reason: "x".repeat(256),
            ..hello(NodeId(u128::from(seat).to_be_bytes()), Role::Relay)
        };
        assert!(seats.handle_hello(seat, &"x".repeat(300).as_str().into(), &hello).unwrap().is_none());
        let policy = Some(PolicyInForce { max_staleness: Duration::from_secs(u64::MAX), ..PolicyInForce::LOOSEST });
        seats.handle_ack(seat, hello.subscriber, &Ack { applied: Revision(u64::MAX), policy, ..ack() });
    }
    let mut count = 0;
    for part in told(&below) {
        count += part.entries.len();
        let message = pb::SubscribeRequest::from(&ToServer::Roster(part));
        assert!(message.encoded_len() < 16 << 10, "{} bytes", message.encoded_len());
    }
    assert_eq!(count, 100);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn nobody_who_was_known_is_lost_and_everybody_who_is_there_is_found(ops in proptest::collection::vec(anything(), 0..60)) {
        let mut world = World::new();
        let mut known = [false; LEAVES];
        for op in ops {
            world.apply(op);
            let is_told_all = world.is_told_all();
            for (leaf, known) in known.iter_mut().enumerate() {
                // What is still on its way may be of a life that ended with a goodbye.
                *known |= is_told_all && world.believed(leaf).is_some();
                *known &= world.leaves[leaf] != Truth::Nowhere;
                prop_assert!(!*known || world.believed(leaf).is_some(), "leaf {leaf} vanished at {op:?}");
            }
        }
        world.settle();
        for (leaf, known) in known.into_iter().enumerate() {
            match (world.leaves[leaf], world.believed(leaf)) {
                (Truth::At { node, .. }, believed) => prop_assert_eq!(believed, Some((node, true)), "leaf {}", leaf),
                (_, Some((_, connected))) => prop_assert!(!connected, "leaf {leaf} is nowhere"),
                (Truth::CutOff, None) => prop_assert!(!known),
                (Truth::Nowhere, None) => {}
            }
        }
    }

    #[test]
    fn what_is_told_at_once_is_exact(ops in proptest::collection::vec(moves(), 0..40)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
            for relay in (1..NODES).rev() {
                world.pass(relay, 9, 9);
            }
            for leaf in 0..LEAVES {
                match (world.leaves[leaf], world.believed(leaf)) {
                    (Truth::At { node, .. }, believed) => prop_assert_eq!(believed, Some((node, true))),
                    (Truth::CutOff, believed) => prop_assert!(matches!(believed, Some((_, false)))),
                    (Truth::Nowhere, believed) => prop_assert_eq!(believed, None),
                }
            }
        }
    }
}
