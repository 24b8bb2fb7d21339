//! `rescind watch`: follows as a subscriber does, and prints what comes.

use std::fmt;
use std::io;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::{note, try_say};
use super::revoke::hex;
use crate::client::{Client, Event, FollowerState, FollowerStatus, Observe};
use crate::revocation::{Delta, Shape};
use crate::security::on_one_line;
use crate::surface::http::render_time;

#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

impl Watch {
    /// Until it is told to end, or nobody reads what it prints; says goodbye either way. A server that cannot be reached is
    /// tried again.
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let urls = self.servers.server.iter().map(ToString::to_string);
        let unread = Arc::new(Notify::new());
        let printer = Printer { json: self.json, state: None, unread: Arc::clone(&unread) };
        let mut builder = Client::builder(urls).name("rescind watch").tls(self.servers.tls()).observe(printer);
        if let Some(path) = &self.servers.credential_file {
            builder = builder.credential_file(path);
        }
        let client = builder.connect();
        let client = client.map_err(|error| Failure::cannot(on_one_line(&error)))?;
        let ended = tokio::select! {
            told = told_to_end() => told,
            () = unread.notified() => Ok(()),
        };
        client.shutdown().await;
        ended.map(|()| Exit::Done).map_err(|error| Failure::cannot(format!("cannot wait for signals: {error}")))
    }
}

/// Resolves at SIGINT, SIGTERM, or SIGHUP where that is not ignored, as under `nohup`.
async fn told_to_end() -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
    let hung_up = async {
        match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hung_up => {}
    }
    Ok(())
}

/// Whether whoever started this process made it ignore SIGHUP (proc_pid_status(5)).
fn ignores_hangup() -> bool {
    const SIGHUP: u32 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Prints a line for each revision, each snapshot and each change of state.
///
/// It writes on the task that follows: a reader who stalls the output stalls the subscription, nothing else.
struct Printer {
    json: bool,
    state: Option<FollowerState>,
    /// Told when nobody reads any more.
    unread: Arc<Notify>,
}

impl Observe for Printer {
    fn handle_event(&mut self, event: Event<'_>, status: &FollowerStatus) {
        let is_news = self.state.replace(status.state) != Some(status.state);
        let Some(line) = Line::of(&event, status, is_news) else { return };
        let said = match (self.json, line.aside) {
            (true, _) => try_say(line.json),
            (false, true) => {
                note(&line.text);
                Ok(())
            }
            (false, false) => try_say(line.text),
        };
        if said.is_err() {
            self.unread.notify_one();
        }
    }
}

/// One line, in both forms.
#[derive(Debug)]
struct Line {
    text: String,
    json: Value,
    /// In text form it belongs on standard error.
    aside: bool,
}

impl Line {
    /// What there is to say about an event; nothing about a status in which the state is the same.
    fn of(event: &Event<'_>, status: &FollowerStatus, is_news: bool) -> Option<Self> {
        let position = status.position().map(|position| position.to_string());
        let line = match event {
            Event::Revision { delta, entries } => Self::revision(delta, *entries, status),
            Event::Swapped { position, entries, epoch_change } => {
                let change = if epoch_change.is_some() { ", another epoch" } else { "" };
                let json = json!({
                    "event": "snapshot", "position": position.to_string(), "entries": entries,
                    "digest": hex(&status.digest.to_bytes()), "epoch_changed": epoch_change.is_some(),
                });
                Self::answer(format!("{position}  snapshot  entries {entries}{change}"), json)
            }
            Event::Connected { server } => {
                let json = json!({ "event": "connected", "server": server });
                Self { text: format!("connected to {server}"), json, aside: true }
            }
            Event::Disconnected { server, reason, retry_in } => {
                let millis = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
                let json = json!({
                    "event": "disconnected", "server": server, "reason": reason, "retry_in_millis": millis,
                    "state": status.state.name(), "position": position,
                });
                Self { text: format!("lost {server}: {reason}; again in {millis} ms"), json, aside: true }
            }
            Event::Alarm(alarm) => {
                let text = alarm.to_string();
                let json = json!({ "event": "alarm", "alarm": text, "position": position });
                Self { text: format!("ALARM: {text}"), json, aside: true }
            }
            Event::Status if is_news => {
                let state = status.state.name();
                let json = json!({ "event": "state", "state": state, "position": position, "lag": status.lag() });
                Self { text: format!("state {state}, lag {}", status.lag()), json, aside: true }
            }
            Event::Status => return None,
        };
        Some(line)
    }

    fn answer(text: String, json: Value) -> Self {
        Self { text, json, aside: false }
    }

    fn revision(delta: &Delta, entries: u64, status: &FollowerStatus) -> Self {
        let position = status.position().map_or_else(String::new, |position| position.to_string());
        let time = render_time(delta.source_time.seconds().0);
        let (upserts, removals, lag) = (delta.upserts.len(), delta.removals.len(), status.lag());
        let digest = hex(&delta.digest_after.to_bytes());
        let shapes = Shapes(&delta.shapes_added, &delta.shapes_retired);
        let prefix = digest.get(..8).unwrap_or(&digest);
        let text = format!(
            "{position}  {time}  +{upserts} -{removals}{shapes}  entries {entries}  digest {prefix}  lag {lag}"
        );
        let names = |shapes: &[Shape]| shapes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let json = json!({
            "event": "revision", "position": position, "source_time": time, "upserts": upserts, "removals": removals,
            "shapes_added": names(&delta.shapes_added), "shapes_retired": names(&delta.shapes_retired),
            "policy_changed": delta.policy.is_some(), "entries": entries, "digest": digest, "lag": lag,
        });
        Self::answer(text, json)
    }
}

/// The shapes added and retired.
struct Shapes<'a>(&'a [Shape], &'a [Shape]);

impl fmt::Display for Shapes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|shape| write!(f, "  +{{{shape}}}"))?;
        self.1.iter().try_for_each(|shape| write!(f, "  -{{{shape}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::Follower;
    use crate::replication::follower::FollowerOptions;
    use crate::replication::frames::NodeId;
    use crate::revocation::{Minute, Revision, TestedClaim, UnixMillis};

    fn status() -> FollowerStatus {
        Follower::new(FollowerOptions::leaf(NodeId([0; 16]), "", 0)).status()
    }

    #[test]
    fn a_revision_is_one_line_with_its_counts_shapes_and_digest() {
        let floor = Minute::from_bits(1);
        let mut delta = Delta::empty(Revision(7), UnixMillis(1_767_225_600_042), floor);
        delta.shapes_added = vec![Shape::new(["sub"], TestedClaim::Iat).unwrap()];
        let line = Line::of(&Event::Revision { delta: &delta, entries: 3 }, &status(), false).unwrap();
        assert!(
            line.text.contains("2026-01-01T00:00:00Z  +0 -0  +{sub}  entries 3  digest 00000000  lag 0"),
            "{line:?}"
        );
        assert_eq!(line.json["shapes_added"], json!(["sub"]));
        assert_eq!(line.json["entries"], 3);
        assert!(!line.aside);
    }

    #[test]
    fn a_status_is_told_only_when_the_state_changed() {
        assert!(Line::of(&Event::Status, &status(), false).is_none());
        let line = Line::of(&Event::Status, &status(), true).unwrap();
        assert_eq!(line.json["state"], "init");
        assert!(line.aside);
    }
}
