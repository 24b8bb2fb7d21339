//! The subscribers of a server, as a tree.

use serde_json::{Value, json};
use tonic::transport::Channel;

use super::connection::ANSWER_BYTES_MAX;
use super::exit::Failure;
use super::revoke::hex;
use crate::surface::http::render_time;
use crate::wire::pb;
use crate::wire::pb::replication_service_client::ReplicationServiceClient;

/// The deepest that a subscriber is indented: no relay lies further below.
const DEPTH_MAX: usize = 16;

/// The first page: the most that one wants to see. `None` from a server that does not list them.
pub(super) async fn list(channel: Channel) -> Result<Option<pb::ListSubscribersResponse>, Failure> {
    let mut client = ReplicationServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    match client.list_subscribers(pb::ListSubscribersRequest::default()).await {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::FailedPrecondition) => {
            Ok(None)
        }
        Err(status) => Err(status.into()),
    }
}

/// One line each, indented under their relay. Whoever's relay is not listed stands at the left.
pub(super) fn tree(subscribers: &[pb::Subscriber]) -> Vec<String> {
    let mut lines = Vec::with_capacity(subscribers.len());
    let is_listed = |id: &[u8]| subscribers.iter().any(|row| row.id == id);
    let has_relays = subscribers.iter().any(|row| !row.parent_id.is_empty());
    for row in subscribers {
        if !has_relays || row.parent_id.is_empty() || !is_listed(&row.parent_id) {
            branch(row, subscribers, has_relays, 0, &mut lines);
        }
    }
    lines
}

fn branch(row: &pb::Subscriber, all: &[pb::Subscriber], has_relays: bool, depth: usize, lines: &mut Vec<String>) {
    lines.push(format!("{}{}", "  ".repeat(depth), line(row)));
    if !has_relays || depth == DEPTH_MAX {
        return;
    }
    for below in all.iter().filter(|below| below.parent_id == row.id && below.id != row.id) {
        branch(below, all, has_relays, depth + 1, lines);
    }
}

fn line(row: &pb::Subscriber) -> String {
    let name = if row.name.is_empty() { "(no name)" } else { &row.name };
    let since = render_time(row.since_millis / 1000);
    if !row.connected {
        return format!("{name}  {}  CUT OFF since {since}", hex(&row.id));
    }
    let ready = if row.ready { "" } else { ", not ready" };
    let lag = if row.lag == 0 { String::new() } else { format!(", {} behind", row.lag) };
    let below = match row.role() {
        pb::hello::Role::Relay => format!("  relay, {} of {} below ready", row.below_ready, row.below),
        _ => String::new(),
    };
    format!("{name}  {}  {}  {}{ready}{lag}  since {since}{below}", hex(&row.id), row.address, row.mode)
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
    fn relays_that_name_each_other_end() {
        assert!(tree(&[row(1, Some(2), "a"), row(2, Some(1), "b")]).is_empty());
    }

    #[test]
    fn one_that_is_cut_off_says_so() {
        let gone = pb::Subscriber { connected: false, ..row(1, None, "a") };
        assert_eq!(tree(&[gone]), ["a  01  CUT OFF since 1970-01-01T00:00:00Z"]);
    }
}
