//! Envoy's external authorization (`envoy.service.auth.v3.Authorization`), as its `ext_authz` filter calls it.
//!
//! What the route says in `context_extensions` decides, and no header of the user:
//!
//! | key | value |
//! |---|---|
//! | `rescind_class` | the class of routes |
//! | `rescind_unknown` | 401, 403 or 503: the status when it cannot be told |
//! | `rescind_claims` | the name under which `jwt_authn` leaves the claims that it verified (`payload_in_metadata`): they are judged in place of the header, which is not looked at |

use envoy_types::ext_authz::v3::CheckResponseExt as _;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use tonic::{Code, Request, Response, Status};

use super::{IDENTITY, Ruling, metadata, unknown_status};
use crate::surface::ask::Desk;
use crate::token::Bearer;

/// The filter whose claims are taken.
const JWT_AUTHN: &str = "envoy.filters.http.jwt_authn";
/// The largest request that is read, in bytes: all headers of the user, and claims beside them.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

pub(in crate::surface) struct Service {
    desk: Desk,
    unknown: StatusCode,
}

/// The service.
pub(in crate::surface) fn service(desk: Desk, unknown: StatusCode) -> AuthorizationServer<Service> {
    AuthorizationServer::new(Service { desk, unknown }).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

#[tonic::async_trait]
impl Authorization for Service {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let extensions = &attributes.context_extensions;
        let unknown = match extensions.get("rescind_unknown") {
            None => self.unknown,
            Some(text) => unknown_status(text)
                .ok_or_else(|| Status::invalid_argument("context_extensions.rescind_unknown: 401, 403 or 503"))?,
        };
        let class = extensions.get("rescind_class").map(String::as_str);
        let claims = extensions.get("rescind_claims").map(|name| claims(&attributes, name));
        let bearer = match &claims {
            Some(Some(claims)) => Bearer::Verified(claims),
            Some(None) => Bearer::Missing,
            None => presented(&attributes),
        };
        Ok(Response::new(answer(self.desk.rule(bearer, class, unknown).await)))
    }
}

/// The user's `Authorization`. Envoy joins several with commas, which no token has in it.
fn presented(attributes: &AttributeContext) -> Bearer<'_> {
    let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
    Bearer::of(http.into_iter().flat_map(authorizations))
}

fn authorizations(http: &HttpRequest) -> impl Iterator<Item = &[u8]> {
    let name = AUTHORIZATION.as_str();
    let raw = http.header_map.iter().flat_map(|map| &map.headers).filter(move |header| header.key == name);
    let raw = raw.map(|header| if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value });
    http.headers.get(name).map(String::as_bytes).into_iter().chain(raw)
}

/// The claims that `jwt_authn` verified, as JSON; `None`: there are none.
fn claims(attributes: &AttributeContext, name: &str) -> Option<String> {
    let filters = &attributes.metadata_context.as_ref()?.filter_metadata;
    metadata::json(filters.get(JWT_AUTHN)?.fields.get(name)?)
}

fn answer(ruling: Ruling) -> CheckResponse {
    match ruling {
        Ruling::Pass(values) => {
            let (mut headers, mut headers_to_remove) = (Vec::new(), Vec::new());
            for (name, value) in IDENTITY.iter().zip(values) {
                match value {
                    Some(value) => headers.push(header(name, value)),
                    None => headers_to_remove.push((*name).to_owned()),
                }
            }
            let mut response = CheckResponse::with_status(Status::new(Code::Ok, ""));
            response.set_http_response(OkHttpResponse { headers, headers_to_remove, ..OkHttpResponse::default() });
            response
        }
        Ruling::Stop { status, challenge, body } => {
            let code = match status {
                StatusCode::BAD_REQUEST => Code::InvalidArgument,
                StatusCode::UNAUTHORIZED => Code::Unauthenticated,
                StatusCode::FORBIDDEN => Code::PermissionDenied,
                _ => Code::Unavailable,
            };
            let mut headers = vec![header(CONTENT_TYPE.as_str(), "application/json".to_owned())];
            headers.extend(challenge.map(|value| header(WWW_AUTHENTICATE.as_str(), value)));
            let mut response = CheckResponse::with_status(Status::new(code, ""));
            response.set_http_response(DeniedHttpResponse {
                status: Some(HttpStatus { code: status.as_u16().into() }),
                headers,
                body,
            });
            response
        }
    }
}

/// A header that takes the place of whatever was there.
fn header(key: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value, raw_value: Vec::new() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    }
}

/// For tests: a request as Envoy sends it.
#[cfg(test)]
pub(super) fn request(headers: &[(&str, &str)], extensions: &[(&str, &str)]) -> CheckRequest {
    use std::collections::HashMap;

    use envoy_types::pb::envoy::service::auth::v3::attribute_context::Request as OfUser;
    let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let http = HttpRequest { headers: map(headers), ..HttpRequest::default() };
    let attributes = AttributeContext {
        request: Some(OfUser { time: None, http: Some(http) }),
        context_extensions: map(extensions),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}
