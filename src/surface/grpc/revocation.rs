//! `RevocationService`.

use tonic::{Request, Response, Status};

use super::errors::status;
use crate::surface::ask::Desk;
use crate::surface::asker::Asker;
use crate::wire::pb;
use crate::wire::pb::revocation_service_server::RevocationService;

pub(super) struct Service(pub(super) Desk);

#[tonic::async_trait]
impl RevocationService for Service {
    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Result<Response<pb::RevokeResponse>, Status> {
        let asker = Asker::of(request.extensions()).map_err(|refusal| status(&refusal))?;
        self.0.revoke(request.into_inner(), &asker).await.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn reinstate(
        &self,
        request: Request<pb::ReinstateRequest>,
    ) -> Result<Response<pb::ReinstateResponse>, Status> {
        let asker = Asker::of(request.extensions()).map_err(|refusal| status(&refusal))?;
        self.0.reinstate(request.into_inner(), &asker).await.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn get_revocation(
        &self,
        request: Request<pb::GetRevocationRequest>,
    ) -> Result<Response<pb::GetRevocationResponse>, Status> {
        self.0.find(request.get_ref()).await.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn list_revocations(
        &self,
        request: Request<pb::ListRevocationsRequest>,
    ) -> Result<Response<pb::ListRevocationsResponse>, Status> {
        self.0.list(request.into_inner()).await.map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn await_propagation(
        &self,
        request: Request<pb::AwaitPropagationRequest>,
    ) -> Result<Response<pb::AwaitPropagationResponse>, Status> {
        self.0.await_propagation(request.get_ref()).await.map(Response::new).map_err(|refusal| status(&refusal))
    }
}
