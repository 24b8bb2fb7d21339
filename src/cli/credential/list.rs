//! `rescind credential list`.

use clap::Args;
use serde_json::{Value, json};

use crate::cli::connection::{ANSWER_BYTES_MAX, Servers};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{plain, say};
use crate::surface::http::{render_millis, render_time};
use crate::wire::pb;
use crate::wire::pb::admin_service_client::AdminServiceClient;

/// More pages than a server has credentials.
const PAGES_MAX: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    servers: Servers,
}

impl List {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let channel = self.servers.connect().await?;
        let mut client = AdminServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        let mut all = Vec::new();
        let mut page_token = String::new();
        for _ in 0..PAGES_MAX {
            let page = client.list_credentials(pb::ListCredentialsRequest { page_token }).await?.into_inner();
            all.extend(page.credentials);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        all.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        if self.json {
            say(json!({ "credentials": all.iter().map(render).collect::<Vec<_>>() }));
        } else {
            all.iter().for_each(|credential| say(plain(&line(credential))));
        }
        Ok(Exit::Done)
    }
}

fn line(credential: &pb::CredentialRecord) -> String {
    let pb::CredentialRecord { id, name, grant, expires_at_seconds, created_at_millis, created_by } = credential;
    let grant = grant.clone().unwrap_or_default();
    let roles = grant.roles.join(",");
    let bounded = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("  {what} {}", names.join(",")),
    };
    let bounds = bounded("issuers", &grant.issuers) + &bounded("claims", &grant.claims);
    let quota = grant.writes_per_minute.map_or_else(String::new, |writes| format!("  {writes} writes a minute"));
    let until =
        expires_at_seconds.map_or_else(|| "until revoked".to_owned(), |at| format!("until {}", render_time(at)));
    let created = render_time(created_at_millis / 1000);
    format!("{id}  {name}  {roles}{bounds}{quota}  {until}  created {created} by {created_by}")
}

fn render(credential: &pb::CredentialRecord) -> Value {
    let pb::CredentialRecord { id, name, grant, expires_at_seconds, created_at_millis, created_by } = credential;
    let grant = grant.clone().unwrap_or_default();
    let bounded = |names: Vec<String>| if names.is_empty() { Value::Null } else { names.into() };
    json!({
        "id": id,
        "name": name,
        "roles": grant.roles,
        "issuers": bounded(grant.issuers),
        "claims": bounded(grant.claims),
        "writes_per_minute": grant.writes_per_minute,
        "expires_at": expires_at_seconds.map(render_time),
        "created_at": render_millis(*created_at_millis),
        "created_by": created_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_shown_with_all_that_bounds_it() {
        let grant = pb::Grant {
            roles: vec!["check".into(), "revoke".into()],
            issuers: vec!["idp".into()],
            claims: vec![],
            writes_per_minute: Some(60),
        };
        let credential = pb::CredentialRecord {
            id: "0102030405060708".into(),
            name: "gateway".into(),
            grant: Some(grant),
            expires_at_seconds: None,
            created_at_millis: 42,
            created_by: "root".into(),
        };
        let expected = "0102030405060708  gateway  check,revoke  issuers idp  60 writes a minute  until revoked  \
                        created 1970-01-01T00:00:00Z by root";
        assert_eq!(line(&credential), expected);
        let value = render(&pb::CredentialRecord { expires_at_seconds: Some(60), ..credential });
        assert_eq!(value["issuers"], json!(["idp"]));
        assert_eq!((&value["claims"], &value["expires_at"]), (&Value::Null, &json!("1970-01-01T00:01:00Z")));
    }
}
