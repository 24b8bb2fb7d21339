//! `rescind status`.

use clap::Args;

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::{plain, say, say_fields};
use super::subscribers;
use crate::config::render_duration;
use crate::surface::http::{self, render_time};
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::{self, pb};

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let channel = self.servers.connect().await?;
        let mut client = AdminServiceClient::new(channel.clone());
        let response = client.get_status(pb::GetStatusRequest {}).await?.into_inner();
        let page = subscribers::list(channel).await?.unwrap_or_default();
        if self.json {
            let mut answer = http::status(&response);
            answer["subscriber_list"] = subscribers::render(&page.subscribers);
            say(answer);
            return Ok(Exit::Done);
        }
        say(format_args!("rescind {}", response.version));
        say_fields(&fields(&response));
        subscribers::tree(&page.subscribers).iter().for_each(|line| say(format_args!("  {}", plain(line))));
        if !page.next_page_token.is_empty() {
            say("  and more");
        }
        Ok(Exit::Done)
    }
}

fn on_or_off(is_on: bool) -> String {
    if is_on { "on" } else { "off" }.to_owned()
}

/// An age that nobody could have measured means that there was no word yet.
fn staleness(millis: u64) -> String {
    const NEVER: u64 = u32::MAX as u64 * 1000;
    if millis >= NEVER {
        "no word from the authority yet".to_owned()
    } else {
        format!("{:.3} s", millis as f64 / 1000.0)
    }
}

fn fields(response: &pb::GetStatusResponse) -> Vec<(&'static str, String)> {
    let position = |message: Option<&pb::Position>| {
        message.and_then(|message| wire::position(message).ok()).map_or_else(String::new, |here| here.to_string())
    };
    let uptime = render_duration(std::time::Duration::from_secs(response.uptime_seconds));
    let mut fields = vec![
        ("position", position(response.position.as_ref())),
        ("generation", response.epoch_generation.to_string()),
        ("indexed through", position(response.indexed_through.as_ref())),
        ("live entries", format!("{} of {}", response.live_entries, response.max_entries)),
        ("active shapes", response.active_shapes.iter().map(|shape| format!("{{{shape}}} ")).collect()),
        ("expiry floor", render_time(response.expiry_floor_seconds)),
        ("staleness", staleness(response.staleness_millis)),
        ("subscribers", response.subscribers.to_string()),
        ("oldest revision", response.oldest_revision.to_string()),
        ("uptime", uptime),
        ("data", response.data_dir.clone()),
        ("authentication", on_or_off(response.authentication)),
        ("tls", on_or_off(response.tls)),
    ];
    if !response.audit_head.is_empty() {
        fields.push(("audit head", response.audit_head.clone()));
    }
    // Whoever follows knows only of those that are connected to it.
    if response.following.is_none() {
        fields.push(("cut off", response.members_cut_off.to_string()));
    }
    fields.push(("public key", super::revoke::hex(&response.public_key)));
    for (name, trouble) in [
        ("WRITES REFUSED", &response.writes_refused),
        ("CLOCK IN DOUBT", &response.clock_alarm),
        ("MEMBERS IN DOUBT", &response.members_trouble),
    ] {
        if !trouble.is_empty() {
            fields.push((name, trouble.clone()));
        }
    }
    if let Some(following) = &response.following {
        let ready = if following.ready { "ready" } else { "NOT READY" };
        let text = format!("{}: {}, {ready}, lag {}", following.upstream, following.state, following.lag);
        fields.push(("following", text));
        if !following.trouble.is_empty() {
            fields.push(("NOT FOLLOWING", following.trouble.clone()));
        }
        let then = if following.deny_when_stale { "then deny" } else { "then serve stale" };
        fields.push(("staleness accepted", format!("{} s, {then}", following.max_staleness_seconds)));
        if following.stale {
            fields.push(("STALE", "the authority was not heard for longer than that".to_owned()));
        }
        if following.residues > 0 {
            fields.push(("residues", format!("{} sets of earlier epochs stay in force", following.residues)));
        }
    }
    if response.insecure {
        let exposed = match (response.authentication, response.tls) {
            (false, _) => "anyone who can connect can revoke and reinstate",
            (true, false) => "whoever sees the traffic can read credentials and use them",
            (true, true) => "started with --insecure, although TLS and authentication are on: take it off",
        };
        fields.push(("INSECURE", exposed.to_owned()));
    }
    fields
}
