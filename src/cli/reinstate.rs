//! `rescind reinstate`.

use clap::Args;

use super::connection::{ANSWER_BYTES_MAX, Servers};
use super::exit::{Exit, Failure};
use super::output::say;
use super::revoke::{Tested, random_request_id};
use super::selection::{Selection, not_empty};
use crate::surface::http;
use crate::wire::pb;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

#[derive(Debug, Args)]
#[command(after_help = "Takes back all live revocations of exactly the selector that is given, or one by its id.
What narrower or wider revocations say about the same tokens stays in force.")]
pub(super) struct Reinstate {
    #[command(flatten)]
    selection: Selection,
    /// The revocations to take back, by id.
    #[arg(long, value_name = "ID", value_parser = not_empty, conflicts_with_all = SELECTION)]
    id: Vec<String>,
    /// The tested claim of the revocations meant.
    #[arg(long, value_name = "CLAIM", conflicts_with = "id")]
    cutoff_on: Option<Tested>,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT", value_parser = not_empty)]
    reason: Option<String>,
    /// Decide everything, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Makes a retry safe.
    #[arg(long, value_name = "ID", value_parser = not_empty)]
    request_id: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

const SELECTION: [&str; 9] = ["token", "token_file", "jti", "sid", "sub", "client_id", "kid", "iss", "claim"];

impl Reinstate {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let request_id = self.request_id.clone().map_or_else(random_request_id, Ok)?;
        let request = pb::ReinstateRequest {
            reinstatements: self.reinstatements()?,
            reason: self.reason.clone().unwrap_or_default(),
            request_id: request_id.clone(),
            dry_run: self.dry_run,
        };
        let response = send(&self.servers, request).await.map_err(|failure| failure.of_write(&request_id))?;
        if self.json {
            say(http::reinstate(&response));
        } else {
            tell(&response);
        }
        let undone = response.outcomes.iter().any(|outcome| !outcome.undone_ids.is_empty());
        Ok(if undone { Exit::Done } else { Exit::Negative })
    }

    /// What the flags say.
    pub(super) fn reinstatements(&self) -> Result<Vec<pb::Reinstatement>, Failure> {
        use pb::reinstatement::Target;
        if !self.id.is_empty() {
            let item = |id: &String| pb::Reinstatement { target: Some(Target::Id(id.clone())), cutoff_on: 0 };
            return Ok(self.id.iter().map(item).collect());
        }
        if self.selection.token.opaque {
            return Err(Failure::cannot("reinstate an opaque token by --id, or by --claim token_sha256=HASH"));
        }
        let selector = self.selection.selector().map(Target::Selector);
        let target = self.selection.token.read()?.map(Target::Token).or(selector);
        if target.is_none() {
            return Err(Failure::cannot("say what to take back: --id, or the flags of the revocation"));
        }
        Ok(vec![pb::Reinstatement { target, cutoff_on: Tested::number(self.cutoff_on) }])
    }
}

async fn send(servers: &Servers, request: pb::ReinstateRequest) -> Result<pb::ReinstateResponse, Failure> {
    let mut client = RevocationServiceClient::new(servers.connect().await?).max_decoding_message_size(ANSWER_BYTES_MAX);
    Ok(client.reinstate(request).await?.into_inner())
}

fn tell(response: &pb::ReinstateResponse) {
    let verb = if response.position.is_some() { "reinstated" } else { "would reinstate" };
    for outcome in &response.outcomes {
        if outcome.undone_ids.is_empty() {
            say("nothing live was named: nothing was changed");
        }
        for id in &outcome.undone_ids {
            say(format_args!("{verb} {id}"));
        }
        for shape in &outcome.still_revoked_by {
            say(format_args!("the token is still revoked by {shape}"));
        }
    }
    if response.repeated_request {
        say("this request was accepted before; the above is what came of it then");
    }
}
