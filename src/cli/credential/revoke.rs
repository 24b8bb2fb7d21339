//! `rescind credential revoke`.

use clap::Args;

use crate::cli::connection::Servers;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::say;
use crate::cli::selection::not_empty;
use crate::wire::pb;
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::revoke_credential_request::Credential;

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The credential: 16 hexadecimal digits, between the underscores of its text.
    #[arg(value_name = "ID", value_parser = not_empty, required_unless_present = "name", conflicts_with = "name")]
    id: Option<String>,
    /// All credentials of this name.
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    name: Option<String>,
    #[command(flatten)]
    servers: Servers,
}

impl Revoke {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let credential = self.id.map(Credential::Id).or(self.name.map(Credential::Name));
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let revoked = client.revoke_credential(pb::RevokeCredentialRequest { credential }).await?.into_inner();
        revoked.ids.iter().for_each(|id| say(format_args!("revoked {id}")));
        Ok(Exit::Done)
    }
}
