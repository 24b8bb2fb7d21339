//! `rescind list`.

use clap::Args;

use super::connection::{ANSWER_BYTES_MAX, Servers};
use super::exit::{Exit, Failure};
use super::output::{note, plain, say};
use super::revoke::describe;
use super::selection::{not_empty, pair};
use super::time::{Time, now, time};
use crate::surface::http::{self, render_time};
use crate::wire::pb;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only the revocation with this id.
    #[arg(long, value_name = "ID", value_parser = not_empty, conflicts_with_all = FILTERS)]
    id: Option<String>,
    /// Only revocations whose selector holds this claim with this value.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    claim: Option<(String, String)>,
    /// Only revocations accepted from this actor.
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    actor: Option<String>,
    /// Only revocations accepted at or after this.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Time>,
    /// Only revocations accepted before this.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Time>,
    /// Leave out what has expired or was reinstated.
    #[arg(long)]
    live: bool,
    /// How many, at most 1000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// The page after the one that printed this.
    #[arg(long, value_name = "TOKEN", value_parser = not_empty)]
    page_token: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

const FILTERS: [&str; 6] = ["claim", "actor", "since", "until", "live", "page_token"];

impl List {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let channel = self.servers.connect().await?;
        let mut client = RevocationServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let response = match &self.id {
            Some(id) => {
                let request = pb::GetRevocationRequest { id: id.clone(), at_least: None };
                match client.get_revocation(request).await {
                    Ok(found) => one(found.into_inner()),
                    Err(status) if status.code() == tonic::Code::NotFound => {
                        note(status.message());
                        return Ok(Exit::Negative);
                    }
                    Err(status) => return Err(status.into()),
                }
            }
            None => client.list_revocations(self.request()).await?.into_inner(),
        };
        if self.json {
            say(http::list(&response));
        } else {
            response.revocations.iter().for_each(tell);
            if !response.next_page_token.is_empty() {
                note(&format!("more: --page-token {}", response.next_page_token));
            }
        }
        Ok(Exit::Done)
    }

    fn request(&self) -> pb::ListRevocationsRequest {
        let now = now();
        pb::ListRevocationsRequest {
            claim: self.claim.clone().map(|(name, value)| pb::Claim { name, value }),
            actor: self.actor.clone().unwrap_or_default(),
            accepted_from_seconds: self.since.map(|time| time.seconds(now)),
            accepted_before_seconds: self.until.map(|time| time.seconds(now)),
            live_only: self.live,
            page_size: self.limit,
            page_token: self.page_token.clone().unwrap_or_default(),
            at_least: None,
        }
    }
}

fn one(found: pb::GetRevocationResponse) -> pb::ListRevocationsResponse {
    pb::ListRevocationsResponse {
        revocations: found.revocation.into_iter().collect(),
        next_page_token: String::new(),
        indexed_through: found.indexed_through,
    }
}

fn tell(record: &pb::RevocationRecord) {
    use pb::revocation_record::State;
    let state = match record.state() {
        State::Live => "live",
        State::Expired => "expired",
        State::Reinstated => "reinstated",
        State::Unspecified => "unknown",
    };
    let accepted = render_time(record.accepted_at_millis / 1000);
    let selector = record.selector.as_ref().map(describe).unwrap_or_default();
    let cutoff = record.cutoff_seconds.map_or_else(|| "all".to_owned(), render_time);
    let kept = record.expires_at_seconds.map_or_else(|| "forever".to_owned(), render_time);
    let exceptions: String = record.exceptions.iter().map(|e| format!("  except {}", describe(e))).collect();
    let reason = if record.reason.is_empty() { String::new() } else { format!("  {:?}", record.reason) };
    let line = format!(
        "{accepted}  {}  {state}  {selector}  cutoff {cutoff}  kept until {kept}  by {}{exceptions}{reason}",
        record.id, record.actor
    );
    say(plain(&line));
}
