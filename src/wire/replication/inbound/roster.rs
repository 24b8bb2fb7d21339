//! What a relay tells of those below it.

use super::{FrameError, fixed, member, policy_in_force, role, text};
use crate::replication::frames::{
    ADDRESS_BYTES_MAX, About, NAME_BYTES_MAX, NodeId, PART_ITEMS_MAX, REASON_BYTES_MAX, Roster, RosterEntry,
    VERSION_BYTES_MAX,
};
use crate::replication::subscription::Mode;
use crate::revocation::{Revision, UnixMillis};
use crate::wire::pb;

pub(super) fn frame(roster: pb::Roster) -> Result<Roster, FrameError> {
    at_most(roster.entries.len(), "roster.entries")?;
    at_most(roster.gone.len(), "roster.gone")?;
    let epoch = if roster.epoch.is_empty() { None } else { Some(fixed(&roster.epoch, "roster.epoch")?) };
    Ok(Roster {
        memory: roster.memory,
        begins: roster.begins,
        complete: roster.complete,
        epoch,
        entries: roster.entries.into_iter().map(entry).collect::<Result<_, _>>()?,
        gone: roster.gone.iter().map(|id| member(id, "roster.gone")).collect::<Result<_, _>>()?,
        unlisted: roster.unlisted,
    })
}

fn entry(entry: pb::roster::Entry) -> Result<RosterEntry, FrameError> {
    let mode = match pb::roster::Mode::try_from(entry.mode) {
        Ok(pb::roster::Mode::Unspecified) => None,
        Ok(pb::roster::Mode::CatchingUp) => Some(Mode::CatchingUp),
        Ok(pb::roster::Mode::Live) => Some(Mode::Live),
        Ok(pb::roster::Mode::Lagging) => Some(Mode::Lagging),
        Err(_) => return Err(FrameError::Invalid("roster.entries.mode")),
    };
    Ok(RosterEntry {
        id: member(&entry.id, "roster.entries.id")?,
        parent: NodeId(fixed(&entry.parent_id, "roster.entries.parent_id")?),
        change: entry.change,
        joined: entry.joined,
        connected: entry.connected,
        about: About {
            name: text(entry.name, NAME_BYTES_MAX, "roster.entries.name")?,
            role: role(entry.role, "roster.entries.role")?,
            version: text(entry.version, VERSION_BYTES_MAX, "roster.entries.version")?,
            address: text(entry.address, ADDRESS_BYTES_MAX, "roster.entries.address")?,
            since: UnixMillis(entry.since_millis),
            reconnect_reason: text(entry.reconnect_reason, REASON_BYTES_MAX, "roster.entries.reconnect_reason")?,
            policy: entry.policy.map(policy_in_force).ok_or(FrameError::Missing("roster.entries.policy"))?,
            acked: Revision(entry.acked_revision),
            ready: entry.ready,
            mode,
            source_time: UnixMillis(entry.source_time_millis),
        },
    })
}

fn at_most(given: usize, field: &'static str) -> Result<(), FrameError> {
    if given > PART_ITEMS_MAX {
        return Err(FrameError::TooLong { field, limit: PART_ITEMS_MAX, given });
    }
    Ok(())
}
