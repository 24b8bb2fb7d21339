//! What is known of subscribers, as messages.

use super::pb;
use crate::revocation::WhenStale;
use crate::revocation::ports::{Propagation, SubscriberPage, SubscriberRow};

/// The message for how far a position has come.
#[must_use]
pub fn propagation(reply: Propagation) -> pb::AwaitPropagationResponse {
    pb::AwaitPropagationResponse {
        complete: reply.complete,
        total: reply.total,
        applied: reply.applied,
        laggards: reply.laggards,
        laggards_more: reply.laggards_more,
        cut_off: reply.cut_off,
        cut_off_names: reply.cut_off_names,
        incomplete: reply.incomplete.is_some(),
        incomplete_reason: reply.incomplete.unwrap_or_default(),
        elapsed_micros: u64::try_from(reply.elapsed.as_micros()).unwrap_or(u64::MAX),
        dead_everywhere_by_seconds: reply.dead_everywhere_by.map(|time| time.0),
        unbounded_members: reply.unbounded_members,
        no_subscribers: reply.no_subscribers,
    }
}

/// The message for a page of subscribers.
#[must_use]
pub fn subscriber_page(page: SubscriberPage) -> pb::ListSubscribersResponse {
    let last = page.rows.last().filter(|_| page.more).map(|row| row.id);
    let next_page_token = last.map_or_else(String::new, |id| format!("{:032x}", u128::from_be_bytes(id)));
    pb::ListSubscribersResponse { subscribers: page.rows.into_iter().map(subscriber).collect(), next_page_token }
}

fn subscriber(row: SubscriberRow) -> pb::Subscriber {
    let role = if row.relay { pb::hello::Role::Relay } else { pb::hello::Role::Leaf };
    let policy = pb::ack::PolicyInForce {
        max_staleness_seconds: row.max_staleness.as_secs(),
        deny_when_stale: row.when_stale == WhenStale::Deny,
    };
    pb::Subscriber {
        id: row.id.to_vec(),
        parent_id: row.parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: row.name,
        role: role.into(),
        address: row.address,
        version: row.version,
        acked_revision: row.acked.0,
        lag: row.lag,
        ready: row.ready,
        mode: row.mode.to_owned(),
        policy: Some(policy),
        since_millis: row.since.0,
        reconnect_reason: row.reconnect_reason,
        connected: row.connected,
        below: row.below,
        below_ready: row.below_ready,
        staleness_millis: row.staleness.map(|staleness| u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX)),
    }
}
