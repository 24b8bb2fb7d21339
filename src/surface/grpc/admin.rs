//! `AdminService`.

use tonic::{Request, Response, Status};

use super::errors::status;
use crate::surface::ask::Desk;
use crate::wire::pb;
use crate::wire::pb::admin_service_server::AdminService;

pub(super) struct Service(pub(super) Desk);

#[tonic::async_trait]
impl AdminService for Service {
    async fn get_status(&self, _: Request<pb::GetStatusRequest>) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn forget(&self, request: Request<pb::ForgetRequest>) -> Result<Response<pb::ForgetResponse>, Status> {
        self.0.forget(request.into_inner()).await.map(Response::new).map_err(|refusal| status(&refusal))
    }
}
