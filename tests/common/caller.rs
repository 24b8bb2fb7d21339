//! A gRPC caller, and short ways to write requests down.

use std::net::SocketAddr;

use rescind::wire::pb;
use rescind::wire::pb::admin_service_client::AdminServiceClient;
use rescind::wire::pb::check_service_client::CheckServiceClient;
use rescind::wire::pb::revocation_service_client::RevocationServiceClient;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// One connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    channel: Channel,
}

/// What must not change when a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) revision: u64,
    pub(crate) digest: Vec<u8>,
    pub(crate) live_entries: u64,
    pub(crate) shapes: Vec<String>,
}

impl Caller {
    /// Connects when it is first used, and again after a failure.
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self { channel: Endpoint::from_shared(format!("http://{server}")).unwrap().connect_lazy() }
    }

    pub(crate) fn revocations(&self) -> RevocationServiceClient<Channel> {
        RevocationServiceClient::new(self.channel.clone()).max_encoding_message_size(16 << 20)
    }

    pub(crate) fn checks(&self) -> CheckServiceClient<Channel> {
        CheckServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn status(&self) -> pb::GetStatusResponse {
        let mut admin = AdminServiceClient::new(self.channel.clone());
        admin.get_status(pb::GetStatusRequest {}).await.expect("the server tells how it is").into_inner()
    }

    pub(crate) async fn standing(&self) -> Standing {
        let status = self.status().await;
        Standing {
            revision: status.position.map_or(0, |position| position.revision),
            digest: status.digest,
            live_entries: status.live_entries,
            shapes: status.active_shapes,
        }
    }

    pub(crate) async fn revoke(&self, revocations: Vec<pb::Revocation>) -> Result<pb::RevokeResponse, Status> {
        let request = pb::RevokeRequest { revocations, ..pb::RevokeRequest::default() };
        Ok(self.revocations().revoke(request).await?.into_inner())
    }

    pub(crate) async fn check(&self, token: pb::presented_token::Presented) -> Result<Outcome, Status> {
        let token = Some(pb::PresentedToken { presented: Some(token) });
        let request = pb::CheckTokenRequest { token, at_least: None };
        Ok(Outcome::of(&self.checks().check_token(request).await?.into_inner()))
    }
}

/// A verdict without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NotRevoked,
    Revoked,
    Unknown(pb::verdict::Cause),
}

impl Outcome {
    /// An outcome that is not set reads as unknown.
    pub(crate) fn of(response: &pb::CheckTokenResponse) -> Self {
        use pb::verdict::Outcome as Message;
        match response.verdict.as_ref().and_then(|verdict| verdict.outcome.as_ref()) {
            Some(Message::NotRevoked(_)) => Self::NotRevoked,
            Some(Message::Revoked(_)) => Self::Revoked,
            Some(Message::Unknown(unknown)) => Self::Unknown(unknown.cause()),
            None => Self::Unknown(pb::verdict::Cause::Unspecified),
        }
    }
}

/// A selector of these pairs, as they are.
pub(crate) fn selector(pairs: &[(&str, &str)]) -> pb::Selector {
    let claim = |(name, value): &(&str, &str)| pb::Claim { name: (*name).to_owned(), value: (*value).to_owned() };
    pb::Selector { claims: pairs.iter().map(claim).collect() }
}

/// A revocation of these pairs and nothing else said.
pub(crate) fn revocation(pairs: &[(&str, &str)]) -> pb::Revocation {
    pb::Revocation { target: Some(pb::revocation::Target::Selector(selector(pairs))), ..pb::Revocation::default() }
}

/// A token's claims, header unseen.
pub(crate) fn claims(payload: &serde_json::Value) -> pb::presented_token::Presented {
    let payload_json = payload.to_string().into_bytes();
    pb::presented_token::Presented::Claims(pb::presented_token::Claims { payload_json, header_json: None })
}
