//! `--wait`: until every subscriber has it.

use std::time::Duration;

use serde_json::{Value, json};

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::{complain, say};
use super::time::duration;
use crate::revocation::ports::PROPAGATION_WAIT_MAX;
use crate::surface::http::render_time;
use crate::wire::pb;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

/// How long to wait, as in `5s`.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait > PROPAGATION_WAIT_MAX {
        return Err(format!("at most {} s", PROPAGATION_WAIT_MAX.as_secs()));
    }
    Ok(wait)
}

/// What came of waiting for `position`. The write is durable whatever happens here.
pub(super) async fn propagation(
    servers: &Servers,
    position: pb::Position,
    wait: Duration,
) -> Result<pb::AwaitPropagationResponse, Failure> {
    let ask = async {
        let mut client = RevocationServiceClient::new(servers.connect_for(wait).await?);
        let timeout_millis = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let request = pb::AwaitPropagationRequest { position: Some(position), timeout_millis };
        Ok::<_, Failure>(client.await_propagation(request).await?.into_inner())
    };
    ask.await.map_err(|failure| Failure {
        exit: Exit::NotEverywhere,
        message: format!("it is durable, but nothing is known of the subscribers: {}", failure.message),
    })
}

/// Tells it, laggards on standard error.
pub(super) fn tell(answer: &pb::AwaitPropagationResponse, quiet: bool) -> Exit {
    if !quiet {
        say(headline(answer));
    }
    if answer.complete || is_nobody(answer) {
        return Exit::Done;
    }
    troubles(answer).iter().for_each(|trouble| complain(trouble));
    Exit::NotEverywhere
}

/// Nobody is missing because nobody is there, and the server is sure of it.
fn is_nobody(answer: &pb::AwaitPropagationResponse) -> bool {
    answer.total == 0 && answer.no_subscribers
}

fn headline(answer: &pb::AwaitPropagationResponse) -> String {
    if is_nobody(answer) {
        return "no subscribers; in force at the server".to_owned();
    }
    let (applied, total) = (answer.applied, answer.total);
    format!("applied by {applied} of {total} subscribers in {:.1} ms", answer.elapsed_micros as f64 / 1000.0)
}

fn troubles(answer: &pb::AwaitPropagationResponse) -> Vec<String> {
    let mut troubles = Vec::new();
    let behind = answer.laggards.len() as u64 + answer.laggards_more;
    if behind > 0 {
        troubles.push(format!("behind: {}", names(&answer.laggards, behind)));
    }
    if answer.cut_off > 0 {
        let names = names(&answer.cut_off_names, answer.cut_off);
        troubles.push(format!("cut off: {names}; `rescind forget` gives up on one that will not come back"));
    }
    if answer.incomplete && answer.cut_off == 0 {
        troubles.push(format!("incomplete: {}", answer.incomplete_reason));
    }
    troubles.push(match answer.dead_everywhere_by_seconds {
        Some(seconds) => format!("dead everywhere by {}", render_time(seconds)),
        None if answer.unbounded_members > 0 => {
            let (serving, total) = (answer.unbounded_members, answer.total);
            format!("no bound can be stated: {serving} of {total} subscribers serve stale")
        }
        None => "no bound can be stated".to_owned(),
    });
    troubles
}

fn names(names: &[String], count: u64) -> String {
    let told = names.join(", ");
    match count.saturating_sub(names.len() as u64) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

/// The answer as JSON.
pub(super) fn render(answer: &pb::AwaitPropagationResponse) -> Value {
    json!({
        "complete": answer.complete,
        "no_subscribers": answer.no_subscribers,
        "total": answer.total.to_string(),
        "applied": answer.applied.to_string(),
        "laggards": answer.laggards,
        "laggards_more": answer.laggards_more.to_string(),
        "cut_off": answer.cut_off.to_string(),
        "cut_off_names": answer.cut_off_names,
        "incomplete": answer.incomplete.then_some(&answer.incomplete_reason),
        "elapsed_micros": answer.elapsed_micros.to_string(),
        "dead_everywhere_by": answer.dead_everywhere_by_seconds.map(render_time),
        "unbounded_members": answer.unbounded_members.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> pb::AwaitPropagationResponse {
        pb::AwaitPropagationResponse { total: 41, applied: 38, elapsed_micros: 3200, ..Default::default() }
    }

    #[test]
    fn the_headline_counts() {
        assert_eq!(headline(&answer()), "applied by 38 of 41 subscribers in 3.2 ms");
        let nobody = pb::AwaitPropagationResponse { no_subscribers: true, incomplete: true, ..Default::default() };
        assert_eq!(headline(&nobody), "no subscribers; in force at the server");
        assert_eq!(tell(&nobody, true), Exit::Done);
    }

    #[test]
    fn nobody_in_a_table_that_cannot_be_read_is_no_success() {
        let unread = pb::AwaitPropagationResponse {
            incomplete: true,
            incomplete_reason: "members.sqlite is damaged".into(),
            ..Default::default()
        };
        assert_eq!(tell(&unread, true), Exit::NotEverywhere);
        assert!(headline(&unread).starts_with("applied by 0 of 0 subscribers"));
        assert_eq!(troubles(&unread)[0], "incomplete: members.sqlite is damaged");
    }

    #[test]
    fn whoever_is_missing_is_named_and_the_bound_stated() {
        let behind = pb::AwaitPropagationResponse {
            laggards: vec!["a".into(), "b".into()],
            laggards_more: 1,
            dead_everywhere_by_seconds: Some(1_767_225_600),
            ..answer()
        };
        assert_eq!(troubles(&behind), ["behind: a, b and 1 more", "dead everywhere by 2026-01-01T00:00:00Z"]);
        let cut_off = pb::AwaitPropagationResponse {
            cut_off: 1,
            cut_off_names: vec!["c".into()],
            incomplete: true,
            unbounded_members: 3,
            ..answer()
        };
        assert_eq!(
            troubles(&cut_off),
            [
                "cut off: c; `rescind forget` gives up on one that will not come back",
                "no bound can be stated: 3 of 41 subscribers serve stale"
            ]
        );
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait("5s"), Ok(Duration::from_secs(5)));
        assert!(wait("2m").is_err());
    }
}
