//! Credentials made, listed and revoked for callers.

use std::sync::Arc;

use super::ask::{Desk, Refusal};
use super::parse::{self, CredentialChoice, Wanted};
use super::peer::{Encrypted, Peer};
use crate::revocation::ports::{
    Caller, Credential, CredentialError, CredentialId, Credentials, OperateError, Violation, WriteError,
};
use crate::revocation::{Grant, Position, UnixMillis};
use crate::security::credential;
use crate::wire::{self, pb};

/// How many credentials are on a page: with the longest grants about 2 MiB.
const PAGE_CREDENTIALS: usize = 500;

impl Desk {
    /// Makes one. Its secret leaves by the way the request came, which nobody else may read.
    pub(super) async fn create_credential(
        &self,
        message: pb::CreateCredentialRequest,
        caller: Caller,
        is_private: bool,
    ) -> Result<pb::CreateCredentialResponse, Refusal> {
        let credentials = self.credentials()?;
        if !is_private {
            return Err(Refusal::Exposed);
        }
        let Wanted { name, grant, expires_at } = parse::wanted_credential(message, self.node.reports.status().now)?;
        hand_on(&caller.grant, &grant)?;
        let minted = credential::mint().map_err(|error| OperateError::Unavailable(error.to_string()))?;
        let (created_at, created_by) = (UnixMillis(0), caller.principal.clone());
        let made = Credential { id: minted.id, name, grant, hash: minted.hash, expires_at, created_at, created_by };
        let position = credentials.create(caller, made.clone()).await?;
        // When it was created is the authority's to say.
        let kept = credentials.find(made.id).unwrap_or(made);
        tracing::info!(id = %kept.id, name = kept.name, by = kept.created_by, "credential created");
        Ok(pb::CreateCredentialResponse {
            credential: Some(wire::credential_record(&kept)),
            text: minted.text.to_string(),
            position: Some(wire::position_message(position)),
        })
    }

    pub(super) fn list_credentials(
        &self,
        message: &pb::ListCredentialsRequest,
    ) -> Result<pb::ListCredentialsResponse, Refusal> {
        let credentials = self.credentials()?;
        let after = parse::credentials_after(message)?;
        let mut all = credentials.list();
        all.sort_unstable_by_key(|credential| credential.id);
        let mut rest = all.iter().filter(|credential| after.is_none_or(|after| credential.id > after)).peekable();
        let page: Vec<_> = rest.by_ref().take(PAGE_CREDENTIALS).map(wire::credential_record).collect();
        let last = page.last().map(|record| record.id.clone()).filter(|_| rest.peek().is_some());
        Ok(pb::ListCredentialsResponse { credentials: page, next_page_token: last.unwrap_or_default() })
    }

    pub(super) async fn revoke_credential(
        &self,
        message: pb::RevokeCredentialRequest,
        caller: Caller,
    ) -> Result<pb::RevokeCredentialResponse, Refusal> {
        let credentials = self.credentials()?;
        let ids: Vec<CredentialId> = match parse::credential_choice(message)? {
            CredentialChoice::Id(id) => vec![id],
            CredentialChoice::Name(name) => {
                let all = credentials.list().into_iter();
                all.filter(|credential| credential.name == name).map(|credential| credential.id).collect()
            }
        };
        let mut position: Option<Position> = None;
        for id in &ids {
            position = Some(credentials.revoke(caller.clone(), *id).await?);
            tracing::info!(%id, by = caller.principal, "credential revoked");
        }
        let position = position.ok_or(CredentialError::NotFound)?;
        Ok(pb::RevokeCredentialResponse {
            ids: ids.iter().map(ToString::to_string).collect(),
            position: Some(wire::position_message(position)),
        })
    }

    /// Whoever keeps them; an agent says whom to ask.
    fn credentials(&self) -> Result<Arc<dyn Credentials>, Refusal> {
        let unknown = || match self.node.reports.status().following {
            Some(following) => WriteError::NotTheAuthority { upstream: following.upstream }.into(),
            None => OperateError::Unsupported.into(),
        };
        self.node.credentials.clone().ok_or_else(unknown)
    }
}

/// Whoever has bounds hands on no more than he has: else he would have none.
fn hand_on(own: &Grant, wanted: &Grant) -> Result<(), Refusal> {
    let violation = |field| Violation {
        field: format!("grant.{field}"),
        description: "goes beyond that of the caller, who can hand on no more than he has".to_owned(),
    };
    let violations: Vec<Violation> = own.exceeded_by(wanted).map(violation).collect();
    if violations.is_empty() { Ok(()) } else { Err(WriteError::NotPermitted { violations }.into()) }
}

/// Whether only the caller reads what is answered: encrypted, or never leaving this machine.
pub(super) fn is_private(extensions: &http::Extensions) -> bool {
    extensions.get::<Encrypted>().is_some()
        || match Peer::of(extensions) {
            Peer::Ip(ip) => ip.is_loopback(),
            Peer::Unix => true,
            Peer::Unknown => false,
        }
}

#[cfg(test)]
mod tests {
    use tonic::service::Routes;

    use super::*;
    use crate::surface::testing::FakeNode;
    use crate::surface::{Options, Surface};
    use crate::wire::pb::admin_service_client::AdminServiceClient;

    #[tokio::test]
    async fn a_secret_is_not_told_where_others_can_read_it() {
        let node = FakeNode::new();
        let app = Surface::new(node.node(), &Options::default(), Routes::default()).app;
        let mut client = AdminServiceClient::with_origin(app, http::Uri::from_static("http://localhost"));
        let mut ask = async |peer: Peer, is_encrypted: bool| {
            let grant = Some(pb::Grant { roles: vec!["check".into()], ..pb::Grant::default() });
            let message = pb::CreateCredentialRequest { name: "gateway".into(), grant, expiry: None };
            let mut request = tonic::Request::new(message);
            request.extensions_mut().insert(peer);
            if is_encrypted {
                request.extensions_mut().insert(Encrypted);
            }
            client.create_credential(request).await
        };
        let far = Peer::Ip("192.0.2.1".parse().unwrap());
        let refused = ask(far, false).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
        assert!(node.credentials.lock().is_empty(), "nothing is made whose secret nobody gets");
        assert!(ask(far, true).await.unwrap().into_inner().text.starts_with("rsc_"));
        assert!(ask(Peer::Unix, false).await.is_ok());
        assert_eq!(node.credentials.lock().len(), 2);
    }

    #[test]
    fn only_this_machine_and_encrypted_connections_are_private() {
        let with = |peer: Option<Peer>, encrypted: bool| {
            let mut extensions = http::Extensions::new();
            peer.map(|peer| extensions.insert(peer));
            encrypted.then(|| extensions.insert(Encrypted));
            is_private(&extensions)
        };
        let ip = |text: &str| Some(Peer::Ip(text.parse().unwrap()));
        assert!(with(ip("127.0.0.1"), false) && with(ip("::1"), false) && with(Some(Peer::Unix), false));
        assert!(!with(ip("192.0.2.1"), false) && !with(None, false) && !with(Some(Peer::Unknown), false));
        assert!(with(ip("192.0.2.1"), true));
    }
}
