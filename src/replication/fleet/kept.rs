//! What of members outlives the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Below, Fleet, Heard, Member};
use crate::replication::frames::{About, NodeId, PolicyInForce, Role};
use crate::replication::moment::Moment;
use crate::revocation::{Revision, UnixMillis};

/// What is kept of a member over restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its process.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// What it does when stale.
    pub policy: PolicyInForce,
    /// The principal whose process it is, if one was asked for.
    pub owner: Option<Arc<str>>,
    /// The relay it is or was connected to, if not to this process.
    pub parent: Option<NodeId>,
    /// The relay in a seat here that told of it.
    pub via: Option<NodeId>,
    /// Of a relay: the memory that it last told from, and up to which change.
    pub heard: Option<(u64, u64)>,
}

impl Fleet {
    /// Takes back what was kept over a restart: all of them are cut off from now on.
    pub fn restore(&mut self, now: Moment, kept: impl IntoIterator<Item = Kept>) {
        for Kept { id, name, role, policy, owner, parent, via, heard } in kept {
            let mut member = Member {
                about: About {
                    name,
                    role,
                    version: String::new(),
                    address: String::new(),
                    since: now.wall,
                    reconnect_reason: String::new(),
                    policy,
                    acked: Revision(0),
                    ready: false,
                    mode: None,
                    source_time: UnixMillis(0),
                },
                owner,
                seat: None,
                earlier: BTreeMap::new(),
                below: parent.map(|parent| Below { via, parent, present: false, report: 0, stay: 0 }),
                beside: BTreeMap::new(),
                cut_off: None,
                change: 0,
                joined: 0,
                subtree: None,
                heard: heard.map(|(memory, changes)| Heard::kept(memory, changes)),
            };
            member.begin_cut(now);
            if let (Some(via), Some(_)) = (via, parent) {
                self.below.entry(via).or_default().insert(id);
            }
            self.members.insert(id, member);
        }
    }

    /// What is to be kept of a member over restarts; `None` when nothing is.
    #[must_use]
    pub fn kept(&self, id: NodeId) -> Option<Kept> {
        let member = self.members.get(&id)?;
        let About { name, role, policy, .. } = &member.about;
        let (parent, via) = (member.parent(), member.below.and_then(|below| below.via));
        let via = via.filter(|_| parent.is_some());
        let heard = member.heard.as_ref().and_then(Heard::to_keep);
        let owner = member.owner.clone();
        Some(Kept { id, name: name.clone(), role: *role, policy: *policy, owner, parent, via, heard })
    }
}
