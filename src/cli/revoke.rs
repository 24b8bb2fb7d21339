//! `rescind revoke`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::batch;
use super::connection::{ANSWER_BYTES_MAX, Servers};
use super::exit::{Exit, Failure};
use super::output::{plain, say, say_fields};
use super::selection::{Selection, exception, not_empty};
use super::time::{CutoffTime, Time, cutoff, duration, now, time};
use super::wait;
use crate::surface::http::{self, render_time};
use crate::wire::pb;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rescind revoke --token - < token.txt              this one token
  rescind revoke --sub alice --iss https://a.example   all tokens of alice issued until now
  rescind revoke --sub alice --except sid=S1        sign out everywhere except session S1
  rescind revoke --kid leaked-key                   everything signed by a leaked key
  rescind revoke --iss https://a.example --yes      everything that an issuer has issued until now
  rescind revoke --sub alice --dry-run              only say what would be in force
  rescind revoke --batch revocations.ndjson         many, one JSON object a line")]
pub(super) struct Revoke {
    #[command(flatten)]
    selection: Selection,
    /// Only tokens issued at or before this: RFC 3339, unix seconds, now, now-1s; none for every token.
    #[arg(long, value_name = "TIME", value_parser = cutoff)]
    cutoff: Option<CutoffTime>,
    /// The time of a token that the cutoff is compared with.
    #[arg(long, value_name = "CLAIM")]
    cutoff_on: Option<Tested>,
    #[command(flatten)]
    expiry: Expiry,
    /// Spare tokens with these claims; repeat it for another selector, at most 4.
    #[arg(long = "except", value_name = "NAME=VALUE[,NAME=VALUE]", value_parser = exception)]
    except: Vec<pb::Selector>,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT", value_parser = not_empty)]
    reason: Option<String>,
    /// Mean this value at every issuer, although several are configured.
    #[arg(long)]
    any_issuer: bool,
    /// Decide everything, change nothing, and say what would be in force.
    #[arg(long)]
    dry_run: bool,
    /// Confirm what reaches a whole issuer (--iss alone) or is kept for good (--never-expires, or --cutoff none where tokens
    /// go on being issued).
    #[arg(long)]
    yes: bool,
    /// Wait so long, at most 60s, until every subscriber has applied it. Exit 3 when time runs out: it is durable then, and
    /// in force at the server.
    #[arg(long, value_name = "DURATION", value_parser = wait::wait, conflicts_with = "dry_run")]
    wait: Option<Duration>,
    /// Makes a retry safe: the same id and the same request are accepted once. With --batch, told apart from the same
    /// batch under another id.
    #[arg(long, value_name = "ID", value_parser = not_empty)]
    request_id: Option<String>,
    /// Revoke what this file says, one JSON object a line; - for standard input. Accepted in chunks of at most 10,000
    /// lines and 1 MiB, each as a whole. A re-run within a day changes nothing more.
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ALONE)]
    batch: Option<PathBuf>,
    /// Begin the batch at this line, counted from 1.
    #[arg(long, value_name = "N", requires = "batch", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Print the answer as JSON.
    #[arg(long, conflicts_with = "batch")]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

/// What goes with one revocation only.
const ALONE: [&str; 17] = [
    "token",
    "token_file",
    "opaque",
    "jti",
    "sid",
    "sub",
    "client_id",
    "kid",
    "iss",
    "claim",
    "cutoff",
    "cutoff_on",
    "expires_in",
    "expires_at",
    "except",
    "reason",
    "wait",
];

#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
struct Expiry {
    /// Forget it after this long, as in 1h or 90d.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<Duration>,
    /// Forget it at this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires_at: Option<Time>,
    /// Keep it until it is reinstated.
    #[arg(long)]
    never_expires: bool,
}

/// A time of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Tested {
    /// When it was issued.
    Iat,
    /// When its user logged in: also catches tokens refreshed from an old login.
    AuthTime,
}

impl Tested {
    pub(super) fn number(this: Option<Self>) -> i32 {
        match this {
            None => pb::TestedClaim::Unspecified.into(),
            Some(Self::Iat) => pb::TestedClaim::Iat.into(),
            Some(Self::AuthTime) => pb::TestedClaim::AuthTime.into(),
        }
    }
}

impl Revoke {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        if let Some(path) = &self.batch {
            let options = batch::Options {
                from_line: self.from_line,
                request_id: self.request_id.clone().unwrap_or_default(),
                dry_run: self.dry_run,
                any_issuer: self.any_issuer,
                confirmed: self.yes,
            };
            return batch::run(path, &options, &self.servers).await;
        }
        let request_id = self.request_id.clone().map_or_else(random_request_id, Ok)?;
        let request = pb::RevokeRequest {
            revocations: vec![self.revocation()?],
            request_id: request_id.clone(),
            dry_run: self.dry_run,
            any_issuer: self.any_issuer,
            confirmed: self.yes,
        };
        let response = send(&self.servers, request).await.map_err(|failure| failure.of_write(&request_id))?;
        if !self.json {
            tell(&response);
        }
        let awaited = match (self.wait, response.position.clone()) {
            (Some(wait), Some(position)) => Some(wait::propagation(&self.servers, position, wait).await),
            _ => None,
        };
        if self.json {
            let mut answer = http::revoke(&response);
            if let Some(Ok(propagation)) = &awaited {
                answer["propagation"] = wait::render(propagation);
            }
            say(answer);
        }
        match awaited {
            Some(propagation) => Ok(wait::tell(&propagation?, self.json)),
            None => Ok(Exit::Done),
        }
    }

    /// The revocation that the flags say.
    pub(super) fn revocation(&self) -> Result<pb::Revocation, Failure> {
        use pb::revocation::{Cutoff, Expiry, Target};
        let selector = self.selection.selector().map(Target::Selector);
        let token = self.selection.token.read()?.map(|token| match self.selection.token.opaque {
            true => Target::OpaqueToken(token),
            false => Target::Token(token),
        });
        let target = token.or(selector);
        if target.is_none() {
            let flags = "--token, --token-file, --jti, --sid, --sub, --client-id, --kid, --iss, --claim or --batch";
            return Err(Failure::cannot(format!("say what to revoke: {flags}")));
        }
        let now = now();
        let cutoff = self.cutoff.map(|cutoff| match cutoff {
            CutoffTime::Time(time) => Cutoff::CutoffSeconds(time.seconds(now)),
            CutoffTime::None => Cutoff::Unbounded(true),
        });
        let expires_in = self.expiry.expires_in.map(|after| Expiry::ExpiresInSeconds(after.as_secs()));
        let expires_at = self.expiry.expires_at.map(|time| Expiry::ExpiresAtSeconds(time.seconds(now)));
        let never = self.expiry.never_expires.then_some(Expiry::NeverExpires(true));
        Ok(pb::Revocation {
            target,
            cutoff,
            cutoff_on: Tested::number(self.cutoff_on),
            expiry: expires_in.or(expires_at).or(never),
            exceptions: self.except.clone(),
            reason: self.reason.clone().unwrap_or_default(),
        })
    }
}

/// Sends one request to the first server that can be reached.
pub(super) async fn send(servers: &Servers, request: pb::RevokeRequest) -> Result<pb::RevokeResponse, Failure> {
    let mut client = RevocationServiceClient::new(servers.connect().await?).max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok(client.revoke(request).await?.into_inner())
}

/// An id that nobody else uses.
pub(super) fn random_request_id() -> Result<String, Failure> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| Failure::cannot(format!("no random numbers: {error}")))?;
    Ok(hex(&id))
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tell(response: &pb::RevokeResponse) {
    tell_outcomes(response);
    if response.repeated_request {
        say("this request was accepted before; the above is what came of it then");
    }
    match response.position.as_ref().map(crate::wire::position) {
        Some(Ok(position)) => say(format_args!("in force at {position}")),
        Some(Err(_)) => {}
        None => say("dry run: nothing was changed"),
    }
}

/// What came, or would come, of each item.
pub(super) fn tell_outcomes(response: &pb::RevokeResponse) {
    for outcome in &response.outcomes {
        let selector = outcome.selector.as_ref().map(describe).unwrap_or_default();
        if outcome.already_expired {
            say(format_args!("{selector} has already expired: nothing {} written", verb(response, "was", "would be")));
            continue;
        }
        say(format_args!("{} {selector}", verb(response, "revoked", "would revoke")));
        say_fields(&outcome_fields(outcome));
    }
}

/// A dry run is in force nowhere.
fn verb<'a>(response: &pb::RevokeResponse, done: &'a str, tried: &'a str) -> &'a str {
    if response.position.is_some() { done } else { tried }
}

fn outcome_fields(outcome: &pb::RevocationOutcome) -> Vec<(&'static str, String)> {
    let cutoff = |seconds| cutoff_text(seconds, outcome.cutoff_on);
    let mut fields = Vec::new();
    if !outcome.id.is_empty() {
        fields.push(("id", outcome.id.clone()));
    }
    fields.push(("cutoff", cutoff(outcome.cutoff_seconds)));
    if let Some(seconds) = outcome.tokens_valid_from_seconds {
        fields.push(("tokens valid from", render_time(seconds)));
    }
    fields.push(("kept until", kept_until(outcome.expires_at_seconds)));
    match &outcome.preview {
        Some(preview) => {
            fields.push(("merges with", merges_with(preview, outcome.merged)));
            fields.push(("then in force", cutoff(preview.cutoff_seconds)));
            fields.push(("then kept until", kept_until(preview.expires_at_seconds)));
        }
        None if outcome.merged => fields.push(("note", "merged with earlier revocations of the same".to_owned())),
        None => {}
    }
    fields
}

fn cutoff_text(seconds: Option<u64>, cutoff_on: i32) -> String {
    let tested = crate::wire::tested(cutoff_on).map(crate::wire::tested_name).unwrap_or("time");
    match seconds {
        Some(seconds) => format!("{tested} up to {}", render_time(seconds)),
        None => "none: every matching token".to_owned(),
    }
}

fn kept_until(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "it is reinstated".to_owned(), render_time)
}

fn merges_with(preview: &pb::revocation_outcome::Preview, merged: bool) -> String {
    let ids = preview.merges_with.join(", ");
    match (preview.merges_with.len(), preview.merges_with_more) {
        (0, 0) if merged => "an earlier one of the same request".to_owned(),
        (0, 0) => "nothing: it would be the only one".to_owned(),
        (_, 0) => ids,
        (0, more) => format!("{more} live revocations"),
        (_, more) => format!("{ids} and {more} more"),
    }
}

/// `sub=alice client_id=web`.
pub(super) fn describe(selector: &pb::Selector) -> String {
    let pairs: Vec<String> = selector.claims.iter().map(|claim| format!("{}={}", claim.name, claim.value)).collect();
    plain(&pairs.join(" ")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dry_run_is_told_so_that_a_person_can_read_it() {
        use pb::revocation_outcome::Preview;
        let preview = Preview {
            merges_with: vec!["a-1-0".into(), "a-2-0".into()],
            merges_with_more: 3,
            cutoff_seconds: None,
            expires_at_seconds: Some(1_767_312_000),
        };
        let outcome = pb::RevocationOutcome {
            cutoff_seconds: Some(1_767_225_600),
            cutoff_on: 1,
            merged: true,
            preview: Some(preview.clone()),
            ..Default::default()
        };
        let fields: Vec<String> =
            outcome_fields(&outcome).iter().map(|(name, text)| format!("{name}: {text}")).collect();
        let expected = [
            "cutoff: iat up to 2026-01-01T00:00:00Z",
            "kept until: it is reinstated",
            "merges with: a-1-0, a-2-0 and 3 more",
            "then in force: none: every matching token",
            "then kept until: 2026-01-02T00:00:00Z",
        ];
        assert_eq!(fields, expected);
        let alone = Preview { merges_with: vec![], merges_with_more: 0, ..preview };
        assert_eq!(merges_with(&alone, true), "an earlier one of the same request");
        assert_eq!(merges_with(&alone, false), "nothing: it would be the only one");
    }
}
