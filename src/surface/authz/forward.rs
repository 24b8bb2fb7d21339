//! Forward auth over HTTP: nginx `auth_request`, Caddy `forward_auth`, Traefik `ForwardAuth`.
//!
//! `GET /authz?class=orders&unknown=403`. 200 lets the request go on and says who it is, with an empty header for what is not
//! known; 401 and 403 are for the user, with `WWW-Authenticate`. nginx makes 500 of every other status, so a token that cannot
//! be read is 401 here and not 400, and what cannot be told is 503 unless the gateway asks for another status.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};

use super::{FORWARDED, IDENTITY, Ruling, presented, unknown_status};
use crate::surface::ask::Desk;
use crate::surface::asker::{Asker, ShownBy};
use crate::surface::http::Problem;

/// Where gateways ask.
pub(in crate::surface) const PATH: &str = "/authz";
/// The longest query, in bytes: the names of two parameters and of a class, with room to spare.
const QUERY_BYTES_MAX: usize = 512;

#[derive(Clone)]
struct Forward {
    desk: Desk,
    unknown: StatusCode,
}

/// What a gateway wants to know.
#[derive(Default)]
struct Asked {
    class: Option<String>,
    unknown: Option<StatusCode>,
}

/// The endpoint; any method will do, since some gateways hand on that of the user.
pub(in crate::surface) fn router(desk: Desk, unknown: StatusCode) -> Router {
    Router::new().route(PATH, any(authorize)).with_state(Forward { desk, unknown })
}

async fn authorize(State(forward): State<Forward>, request: Request) -> Result<Response, Problem> {
    let asker = Asker::of(request.extensions())?;
    let asked = Asked::of(request.uri().query().unwrap_or_default())
        .map_err(|detail| Problem::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", detail))?;
    let name = match asker.shown_by() {
        ShownBy::Credential => FORWARDED,
        ShownBy::Certificate | ShownBy::Nothing => AUTHORIZATION,
    };
    let unknown = asked.unknown.unwrap_or(forward.unknown);
    let ruling = forward.desk.rule(presented(request.headers(), &name), asked.class.as_deref(), unknown).await;
    Ok(answer(ruling))
}

impl Asked {
    fn of(query: &str) -> Result<Self, String> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(format!("the query has at most {QUERY_BYTES_MAX} bytes"));
        }
        let mut asked = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "class" if asked.class.is_none() => asked.class = Some(value.into_owned()),
                "unknown" if asked.unknown.is_none() => {
                    let status = unknown_status(&value).ok_or("unknown: 401, 403 or 503")?;
                    asked.unknown = Some(status);
                }
                "class" | "unknown" => return Err(format!("{name}: is there twice")),
                _ => return Err("the parameters are class and unknown".to_owned()),
            }
        }
        Ok(asked)
    }
}

fn answer(ruling: Ruling) -> Response {
    let mut response = match ruling {
        Ruling::Pass(values) => {
            let mut response = StatusCode::OK.into_response();
            for (name, value) in IDENTITY.into_iter().zip(values) {
                // Empty is said, too: some gateways leave what the user sent where nothing is said, and Caddy 2.6 puts the
                // name of its placeholder there.
                let value = value.and_then(|value| HeaderValue::try_from(value).ok());
                let value = value.unwrap_or(HeaderValue::from_static(""));
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
            response
        }
        Ruling::Stop { status, challenge, body } => {
            let status = if status == StatusCode::BAD_REQUEST { StatusCode::UNAUTHORIZED } else { status };
            let mut response = (status, body).into_response();
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Some(value) = challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
                response.headers_mut().insert(WWW_AUTHENTICATE, value);
            }
            response
        }
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
