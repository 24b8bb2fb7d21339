//! `ListSubscribers`, the one method of the service that is an ordinary call.

use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::super::errors::status;
use crate::revocation::ports::Propagates;
use crate::surface::ask::Refusal;
use crate::surface::parse;
use crate::wire::{self, pb};

/// The largest request, in bytes: a page token with room to spare.
const REQUEST_BYTES_MAX: usize = 1 << 10;

pub(super) async fn answer(propagates: Arc<dyn Propagates>, request: Request<Body>) -> Response<Body> {
    let codec = ProstCodec::<pb::ListSubscribersResponse, pb::ListSubscribersRequest>::default();
    let list = service_fn(move |request: tonic::Request<pb::ListSubscribersRequest>| {
        let page = list(propagates.as_ref(), request.get_ref());
        std::future::ready(page.map(tonic::Response::new).map_err(|refusal| status(&refusal)))
    });
    Grpc::new(codec).apply_max_message_size_config(Some(REQUEST_BYTES_MAX), None).unary(list, request).await
}

fn list(
    propagates: &dyn Propagates,
    message: &pb::ListSubscribersRequest,
) -> Result<pb::ListSubscribersResponse, Refusal> {
    let (after, page_size) = parse::subscribers(message)?;
    Ok(wire::subscriber_page(propagates.subscribers(after, page_size)?))
}
