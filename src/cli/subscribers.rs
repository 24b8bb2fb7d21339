//! The subscribers of a server, as a tree.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tonic::Code;

use super::connection::ANSWER_BYTES_MAX;
use super::exit::Failure;
use super::revoke::hex;
use crate::surface::http::render_time;
use crate::wire::pb::replication_service_client::ReplicationServiceClient;
use crate::wire::{Calls, pb};

/// The deepest that a subscriber is indented: no relay lies further below.
const DEPTH_MAX: usize = 16;

/// The first page: the most that one wants to see. `None` from a server that does not list them, or not for this caller.
pub(super) async fn list(channel: Calls) -> Result<Option<pb::ListSubscribersResponse>, Failure> {
    let mut client = ReplicationServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    match client.list_subscribers(pb::ListSubscribersRequest::default()).await {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) => match status.code() {
            Code::Unimplemented | Code::FailedPrecondition | Code::PermissionDenied => Ok(None),
            _ => Err(status.into()),
        },
    }
}

/// One line each, indented under their relay. Whoever's relay is not listed stands at the left.
pub(super) fn tree(subscribers: &[pb::Subscriber]) -> Vec<String> {
    let listed: HashSet<&[u8]> = subscribers.iter().map(|row| &*row.id).collect();
    let mut below: HashMap<&[u8], Vec<&pb::Subscriber>> = HashMap::new();
    let mut waiting = Vec::new();
    for row in subscribers.iter().rev() {
        let parent = &*row.parent_id;
        if listed.contains(parent) && parent != row.id {
            below.entry(parent).or_default().push(row);
        } else {
            waiting.push((0, row));
        }
    }
    let mut lines = Vec::with_capacity(subscribers.len());
    loop {
        while let Some((depth, row)) = waiting.pop() {
            lines.push(format!("{}{}", "  ".repeat(depth), line(row)));
            let depth = DEPTH_MAX.min(depth + 1);
            waiting.extend(below.remove(&*row.id).unwrap_or_default().into_iter().map(|row| (depth, row)));
        }
        // Relays that name each other are below nobody.
        let Some(first) = below.keys().min().copied() else { return lines };
        waiting.extend(below.remove(first).unwrap_or_default().into_iter().map(|row| (0, row)));
    }
}

fn line(row: &pb::Subscriber) -> String {
    let name = if row.name.is_empty() { "(no name)" } else { &row.name };
    let (id, since) = (hex(&row.id), render_time(row.since_millis / 1000));
    let policy = row.policy.unwrap_or_default();
    let stale = match (policy.deny_when_stale, policy.max_staleness_seconds) {
        (true, seconds) => format!("denies when staler than {seconds} s"),
        (false, _) => "serves stale".to_owned(),
    };
    let heard = row.staleness_millis.map_or_else(String::new, |millis| format!("  heard {} ago", age(millis)));
    if !row.connected {
        return format!("{name}  {id}  CUT OFF since {since}{heard}  {stale}");
    }
    let mode = if row.mode.is_empty() { String::new() } else { format!("{}, ", row.mode) };
    let ready = if row.ready { "" } else { ", not ready" };
    let lag = if row.lag == 0 { String::new() } else { format!(", {} behind", row.lag) };
    let below = match row.role() {
        pb::hello::Role::Relay => format!("  relay, {} of {} below ready", row.below_ready, row.below),
        _ => String::new(),
    };
    let version = if row.version.is_empty() { String::new() } else { format!("  {}", row.version) };
    let (address, at) = (&row.address, row.acked_revision);
    format!("{name}  {id}  {address}  {mode}at {at}{ready}{lag}{heard}  since {since}{version}  {stale}{below}")
}

fn age(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

/// The same as JSON.
pub(super) fn render(subscribers: &[pb::Subscriber]) -> Value {
    subscribers.iter().map(json).collect()
}

fn json(row: &pb::Subscriber) -> Value {
    let policy = row.policy.unwrap_or_default();
    json!({
        "id": hex(&row.id),
        "parent_id": (!row.parent_id.is_empty()).then(|| hex(&row.parent_id)),
        "name": row.name,
        "role": if row.role() == pb::hello::Role::Relay { "relay" } else { "leaf" },
        "address": row.address,
        "version": row.version,
        "acked_revision": row.acked_revision.to_string(),
        "lag": row.lag.to_string(),
        "ready": row.ready,
        "mode": row.mode,
        "max_staleness_seconds": policy.max_staleness_seconds.to_string(),
        "when_stale": if policy.deny_when_stale { "deny" } else { "serve_stale" },
        "since": render_time(row.since_millis / 1000),
        "reconnect_reason": row.reconnect_reason,
        "connected": row.connected,
        "staleness_millis": row.staleness_millis.map(|millis| millis.to_string()),
        "below": row.below.to_string(),
        "below_ready": row.below_ready.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u8, parent: Option<u8>, name: &str) -> pb::Subscriber {
        let parent_id = parent.map(|id| vec![id]).unwrap_or_default();
        pb::Subscriber {
            id: vec![id],
            parent_id,
            name: name.into(),
            connected: true,
            ready: true,
            ..Default::default()
        }
    }

    #[test]
    fn subscribers_stand_under_their_relay() {
        let rows = [row(1, Some(2), "leaf"), row(2, None, "relay"), row(3, Some(9), "elsewhere")];
        let lines = tree(&rows);
        let names: Vec<&str> = lines.iter().map(|line| line.split("  0").next().unwrap_or_default()).collect();
        assert_eq!(names, ["relay", "  leaf", "elsewhere"]);
    }

    #[test]
    fn relays_that_name_each_other_are_listed_once() {
        assert_eq!(tree(&[row(1, Some(2), "a"), row(2, Some(1), "b"), row(3, Some(3), "c")]).len(), 3);
    }

    #[test]
    fn a_line_says_where_how_far_and_since_when() {
        let relay = pb::Subscriber {
            role: pb::hello::Role::Relay.into(),
            address: "10.0.0.1:2".into(),
            version: "0.1.0".into(),
            mode: "live".into(),
            acked_revision: 9,
            lag: 2,
            below: 3,
            below_ready: 1,
            policy: Some(pb::ack::PolicyInForce { max_staleness_seconds: 30, deny_when_stale: true }),
            ..row(1, None, "relay")
        };
        let line = "relay  01  10.0.0.1:2  live, at 9, 2 behind  since 1970-01-01T00:00:00Z  0.1.0  \
                    denies when staler than 30 s  relay, 1 of 3 below ready";
        assert_eq!(tree(&[relay]), [line]);
    }

    #[test]
    fn one_that_is_cut_off_says_so() {
        let gone = pb::Subscriber { connected: false, ..row(1, None, "a") };
        assert_eq!(tree(&[gone]), ["a  01  CUT OFF since 1970-01-01T00:00:00Z  serves stale"]);
    }
}
