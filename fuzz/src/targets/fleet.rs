//! Who follows, by the word of subscribers and relays that say anything.
//!
//! Whatever they say: there are never more members than allowed, nobody is in two places, and one that serves stale is
//! never forgotten but by a goodbye, a relay that told of it, or somebody who asks for that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rescind::replication::Moment;
use rescind::replication::fleet::{Fleet, Forgot, Place};
use rescind::replication::frames::{Hello, NodeId, PolicyInForce, Role, ToServer};
use rescind::replication::source::Guest;
use rescind::replication::subscription::Mode;
use rescind::revocation::{Revision, UnixMillis, WhenStale};

use super::authority::T0;
use super::frames::decode_from_subscriber;
use super::input::Input;
use super::note_accepted;
use super::subscription::sound_hello;

/// Few, so that there are too many soon.
const MEMBERS_MAX: usize = 6;
const SKEW: Duration = Duration::from_secs(30);
/// The most steps of one input.
const STEPS_MAX: usize = 64;

pub fn fleet(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let node = (input.byte() % 2 == 1).then_some(NodeId([0xaa; 16]));
    let mut fleet = Fleet::new(node, MEMBERS_MAX);
    fleet.set_epoch([3; 16]);
    let mut now = Moment { boot: Duration::from_secs(1), wall: UnixMillis(T0) };
    // Who sits where, as the hub would say it.
    let mut seats: BTreeMap<u64, NodeId> = BTreeMap::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let seat = u64::from(input.byte() % 8);
        let sitting = seats.get(&seat).copied();
        match input.byte() % 10 {
            0 => {
                if sitting.is_none() {
                    let role = if input.coin() { Role::Leaf } else { Role::Relay };
                    let mut hello = sound_hello(None, role);
                    hello.subscriber = NodeId([input.byte() % 8 + 1; 16]);
                    fleet.make_room(now, SKEW);
                    if greet(&mut fleet, now, seat, &hello, &mut input) {
                        seats.insert(seat, hello.subscriber);
                    }
                }
            }
            1 | 2 => match (decode_from_subscriber(input.long_block()), sitting) {
                (Some(ToServer::Hello(hello)), None) if greet(&mut fleet, now, seat, &hello, &mut input) => {
                    seats.insert(seat, hello.subscriber);
                }
                (Some(ToServer::Ack(ack)), Some(member)) => fleet.handle_ack(seat, member, &ack),
                (Some(ToServer::Roster(roster)), Some(member)) => {
                    let taken = fleet.handle_roster(now, seat, member, &roster);
                    taken.into_iter().for_each(|()| note_accepted());
                }
                _ => {}
            },
            3 => {
                if let Some(member) = seats.remove(&seat) {
                    fleet.handle_leave(now, seat, member, input.coin());
                }
            }
            4 => now.boot += Duration::from_secs(u64::from(input.byte()) * 16),
            5 => expire(&mut fleet, now),
            6 => {
                let member = NodeId([input.byte() % 8 + 1; 16]);
                let connected = fleet.members().any(|(id, about)| id == member && about.place() != Place::CutOff);
                let forgot = fleet.forget(now, Some(member), "");
                assert!(!connected || forgot == Forgot::Connected, "whoever is connected is not forgotten");
            }
            7 => {
                if let Some(member) = sitting {
                    fleet.handle_mode(seat, member, Mode::Live);
                }
            }
            8 => fleet.handle_logged(Revision(u64::from(input.byte())), policy(&mut input)),
            _ => {
                let told = fleet.changes();
                fleet.let_go(now, u64::from(input.byte()).min(told));
            }
        }
        check(&mut fleet);
    }
}

/// Somebody says Hello, asked who he is or not; whether he may sit down.
fn greet(fleet: &mut Fleet, now: Moment, seat: u64, hello: &Hello, input: &mut Input<'_>) -> bool {
    let principal = ["payments", "orders"].get(usize::from(input.byte() % 3)).map(|name| Arc::from(*name));
    let guest = Guest { address: "127.0.0.1:1".to_owned(), principal };
    let unsaid = policy(input);
    fleet.handle_hello(now, seat, &guest, hello, unsaid).is_ok()
}

fn policy(input: &mut Input<'_>) -> PolicyInForce {
    let when_stale = if input.coin() { WhenStale::Deny } else { WhenStale::ServeStale };
    PolicyInForce { max_staleness: Duration::from_secs(u64::from(input.byte())), when_stale }
}

fn expire(fleet: &mut Fleet, now: Moment) {
    let stays = |fleet: &Fleet| {
        let stays = fleet.members().filter(|(_, member)| {
            member.place() != Place::CutOff || member.about().policy.when_stale == WhenStale::ServeStale
        });
        stays.map(|(id, _)| id).collect::<Vec<_>>()
    };
    let before = stays(fleet);
    fleet.expire(now, SKEW);
    let after: Vec<NodeId> = fleet.members().map(|(id, _)| id).collect();
    assert!(before.iter().all(|id| after.contains(id)), "only who denies when stale runs out");
}

fn check(fleet: &mut Fleet) {
    assert!(fleet.members().count() <= MEMBERS_MAX);
    let connected = fleet.members().filter(|(_, member)| member.place() != Place::CutOff).count() as u64;
    assert_eq!(fleet.cut_off() + connected, fleet.members().count() as u64);
    let subtree = fleet.subtree();
    assert!(subtree.ready <= connected && subtree.ready <= subtree.subscribers);
    assert!(subtree.subscribers >= connected.max(fleet.unlisted_below()));
    assert_eq!(fleet.counted().count(), fleet.members().count(), "nobody goes uncounted");
    let ids: Vec<NodeId> = fleet.members().map(|(id, _)| id).collect();
    for id in ids {
        let kept = fleet.kept(id).expect("every member can be kept");
        assert_eq!(kept.id, id);
        let entry = fleet.entry(id, NodeId([0xaa; 16]));
        assert!(entry.is_none_or(|entry| entry.id == id));
        let _ = fleet.name_of(id);
    }
    let _ = fleet.below_counts();
    let _ = fleet.furthest_behind();
    fleet.take_changed();
    fleet.take_moved();
}
