//! `AdminService`.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::errors::status;
use crate::revocation::Revision;
use crate::revocation::ports::{AcceptLossError, OperateError};
use crate::surface::ask::{Desk, Refusal};
use crate::surface::asker::Asker;
use crate::surface::credentials::is_private;
use crate::surface::violations::Violations;
use crate::wire::pb;
use crate::wire::pb::admin_service_server::AdminService;

/// Parts of a backup or an export on their way to the transport: 1 MiB, unless records are longer.
const PARTS: usize = 4;
/// A caller that takes nothing for so long is cut: others wait for their turn.
const STALLED_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Service(pub(super) Desk);

#[tonic::async_trait]
impl AdminService for Service {
    type ExportJournalStream = ReceiverStream<Result<pb::ExportJournalResponse, Status>>;
    type BackupStream = ReceiverStream<Result<pb::BackupResponse, Status>>;

    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn accept_loss(
        &self,
        request: Request<pb::AcceptLossRequest>,
    ) -> Result<Response<pb::AcceptLossResponse>, Status> {
        let caller = Asker::of(request.extensions()).map_err(|refusal| status(&refusal))?.caller();
        let accepted = self.0.node.operates.accept_loss(caller, request.get_ref().generation).await;
        let position = accepted.map_err(|error| status(&refusal(error)))?;
        Ok(Response::new(pb::AcceptLossResponse { position: Some(crate::wire::position_message(position)) }))
    }

    async fn backup(&self, _: Request<pb::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let parts = self.0.node.operates.backup().map_err(|error| status(&error.into()))?;
        let (out, parts_out) = mpsc::channel(PARTS);
        tokio::spawn(pump(parts, out, crate::wire::backup_part));
        Ok(Response::new(ReceiverStream::new(parts_out)))
    }

    async fn create_credential(
        &self,
        request: Request<pb::CreateCredentialRequest>,
    ) -> Result<Response<pb::CreateCredentialResponse>, Status> {
        let caller = Asker::of(request.extensions()).map_err(|refusal| status(&refusal))?.caller();
        let is_private = is_private(request.extensions());
        let created = self.0.create_credential(request.into_inner(), caller, is_private).await;
        created.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn list_credentials(
        &self,
        request: Request<pb::ListCredentialsRequest>,
    ) -> Result<Response<pb::ListCredentialsResponse>, Status> {
        self.0.list_credentials(request.get_ref()).map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn revoke_credential(
        &self,
        request: Request<pb::RevokeCredentialRequest>,
    ) -> Result<Response<pb::RevokeCredentialResponse>, Status> {
        let caller = Asker::of(request.extensions()).map_err(|refusal| status(&refusal))?.caller();
        let revoked = self.0.revoke_credential(request.into_inner(), caller).await;
        revoked.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn apply_policy(
        &self,
        request: Request<pb::ApplyPolicyRequest>,
    ) -> Result<Response<pb::ApplyPolicyResponse>, Status> {
        let caller = Asker::of(request.extensions()).map_err(|refusal| status(&refusal))?.caller();
        let applied = self.0.apply_policy(request.into_inner(), caller).await;
        applied.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        self.0.get_policy(request.get_ref()).map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn list_policies(
        &self,
        _: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        self.0.list_policies().map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn export_journal(
        &self,
        request: Request<pb::ExportJournalRequest>,
    ) -> Result<Response<Self::ExportJournalStream>, Status> {
        let from = Revision(request.get_ref().from_revision);
        let parts = self.0.node.operates.export(from).map_err(|error| status(&error.into()))?;
        let (out, parts_out) = mpsc::channel(PARTS);
        tokio::spawn(pump(parts, out, crate::wire::export_part));
        Ok(Response::new(ReceiverStream::new(parts_out)))
    }

    async fn forget(&self, request: Request<pb::ForgetRequest>) -> Result<Response<pb::ForgetResponse>, Status> {
        self.0.forget(request.into_inner()).await.map(Response::new).map_err(|refusal| status(&refusal))
    }
}

fn refusal(error: AcceptLossError) -> Refusal {
    match error {
        AcceptLossError::Operate(error) => error.into(),
        AcceptLossError::Write(error) => error.into(),
        AcceptLossError::NotPast { .. } | AcceptLossError::AcceptedBeyond { .. } => {
            let mut violations = Violations::default();
            violations.add("generation", error);
            violations.into()
        }
    }
}

/// Hands on one part after the other, until the last one, an error, or a caller that left or stalls.
async fn pump<P: Send + 'static, M>(
    mut parts: Box<dyn Iterator<Item = Result<P, OperateError>> + Send>,
    out: mpsc::Sender<Result<M, Status>>,
    message_of: fn(P) -> M,
) {
    loop {
        let read = spawn_blocking(move || {
            let part = parts.next();
            (parts, part)
        });
        let part = match read.await {
            Ok((rest, part)) => {
                parts = rest;
                part
            }
            Err(error) => {
                let error = OperateError::Unavailable(error.to_string());
                let _ = out.try_send(Err(status(&error.into())));
                return;
            }
        };
        let Some(part) = part else { return };
        let message = part.map(message_of).map_err(|error| status(&error.into()));
        if !matches!(timeout(STALLED_AFTER, out.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}
