//! `AdminService`.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::errors::status;
use crate::revocation::ports::{AcceptLossError, BackupParts, OperateError};
use crate::surface::ask::{Desk, Refusal};
use crate::surface::asker::Asker;
use crate::surface::violations::Violations;
use crate::wire::pb;
use crate::wire::pb::admin_service_server::AdminService;

/// Parts of a backup on their way to the transport: 1 MiB.
const BACKUP_PARTS: usize = 4;
/// A caller that takes nothing of its backup for so long is cut: others wait for their turn.
const BACKUP_STALLED_AFTER: Duration = Duration::from_secs(60);

pub(super) struct Service(pub(super) Desk);

#[tonic::async_trait]
impl AdminService for Service {
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
        let (out, parts_out) = mpsc::channel(BACKUP_PARTS);
        tokio::spawn(pump(parts, out));
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
async fn pump(mut parts: BackupParts, out: mpsc::Sender<Result<pb::BackupResponse, Status>>) {
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
        let message = part.map(crate::wire::backup_part).map_err(|error| status(&error.into()));
        if !matches!(timeout(BACKUP_STALLED_AFTER, out.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}
