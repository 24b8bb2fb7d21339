//! `CheckService`. Verifies no signature: the answer is about revocation only.

use tonic::{Request, Response, Status};

use super::errors::status;
use crate::surface::ask::Desk;
use crate::wire::pb;
use crate::wire::pb::check_service_server::CheckService;

pub(super) struct Service(pub(super) Desk);

#[tonic::async_trait]
impl CheckService for Service {
    async fn check_token(
        &self,
        request: Request<pb::CheckTokenRequest>,
    ) -> Result<Response<pb::CheckTokenResponse>, Status> {
        self.0.check(request.get_ref()).map(Response::new).map_err(|refusal| status(&refusal))
    }

    async fn check_tokens(
        &self,
        request: Request<pb::CheckTokensRequest>,
    ) -> Result<Response<pb::CheckTokensResponse>, Status> {
        self.0.check_many(request.into_inner()).await.map(Response::new).map_err(|refusal| status(&refusal))
    }
}
