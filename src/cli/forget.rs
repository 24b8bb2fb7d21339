//! `rescind forget`.

use clap::Args;

use super::connection::Servers;
use super::exit::{Exit, Failure};
use super::output::say;
use super::selection::not_empty;
use crate::wire::pb;
use crate::wire::pb::admin_service_client::AdminServiceClient;
use crate::wire::pb::forget_request::Member;

#[derive(Debug, Args)]
pub(super) struct Forget {
    /// The name of a subscriber, below a relay also relay/name, or its id: 32 hexadecimal digits. A name means all that are
    /// cut off under it.
    #[arg(value_name = "NAME|ID", value_parser = not_empty)]
    member: String,
    #[command(flatten)]
    servers: Servers,
}

impl Forget {
    pub(super) async fn run(self) -> Result<Exit, Failure> {
        let mut client = AdminServiceClient::new(self.servers.connect().await?);
        let member = Some(named(&self.member));
        let forgotten = client.forget(pb::ForgetRequest { member }).await?.into_inner().forgotten;
        let s = if forgotten == 1 { "" } else { "s" };
        say(format_args!("forgot {forgotten} subscriber{s}: what it may still serve is no longer waited for"));
        Ok(Exit::Done)
    }
}

fn named(member: &str) -> Member {
    let is_id = member.len() == 32 && member.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { Member::Id(member.to_owned()) } else { Member::Name(member.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_a_name() {
        assert_eq!(named(&"0a".repeat(16)), Member::Id("0a".repeat(16)));
        assert_eq!(named("checkout"), Member::Name("checkout".into()));
    }
}
