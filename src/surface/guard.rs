//! Keeps browsers out: any page can make the browser of somebody on this machine send requests to loopback.
//!
//! - A request from a page of another origin is refused by its `Origin`.
//!   Not so for `/authz`: gateways hand on what their far end sent.
//! - A page whose name was rebound to this address is refused by its `Host`, which must be an IP address, `localhost`
//!   or a configured name.
//! - No page reaches a Unix socket, so there any `Host` will do: clients put what they like.
//! - gRPC is answered over HTTP/2 only, which browsers do not speak in clear text; there a name in `:authority` is how
//!   honest clients call the server, so it is not judged. In TLS browsers do speak it, but a page whose name was rebound
//!   gets no further than the certificate, which is not for that name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, StatusCode, Version};

use super::http::Problem;
use super::peer::Peer;

/// The names, beside IP addresses and `localhost`, by which HTTP callers may call this server.
pub(super) type Hosts = Arc<[String]>;

/// Refuses what a browser was made to send.
pub(super) async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match judge(&request, &hosts) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// Whether a request is gRPC by its content type.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn judge(request: &Request, hosts: &[String]) -> Result<(), Problem> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => single(request.headers(), HOST)?.unwrap_or_default(),
    };
    // What a gateway hands on is the origin of its own far end; and the answer changes nothing here.
    let is_for_another = request.uri().path() == super::authz::PATH;
    if let Some(origin) = single(request.headers(), ORIGIN)?
        && !is_for_another
        && origin.split_once("://").map(|(_, host)| host) != Some(authority)
    {
        return Err(Problem::new(StatusCode::FORBIDDEN, "FOREIGN_ORIGIN", "the Origin is not this host"));
    }
    if is_grpc(request.headers()) {
        return match request.version() {
            Version::HTTP_2 => Ok(()),
            _ => Err(Problem::new(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP_VERSION", "gRPC needs HTTP/2")),
        };
    }
    if Peer::of(request.extensions()) == Peer::Unix || accepted_host(host_of(authority), hosts) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "UNKNOWN_HOST",
        "the Host is neither an IP address, nor localhost, nor listed in server.hosts",
    ))
}

/// The value of a header that must not be repeated.
fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).into_iter();
    let malformed =
        || Problem::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", format!("the {name} header is malformed"));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| malformed()),
        (Some(_), Some(_)) => Err(malformed()),
    }
}

/// An authority without its port.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ipv6, _)) => ipv6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn accepted_host(host: &str, hosts: &[String]) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || host.parse::<Ipv6Addr>().is_ok()
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn check(headers: &[(&str, &str)], version: Version, expected: Result<(), StatusCode>) {
        let mut request = Request::builder().uri("/v1/check").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let hosts = ["rescind.internal".to_owned()];
        let judged = judge(&request.body(Body::empty()).unwrap(), &hosts);
        assert_eq!(judged.map_err(|problem| problem.status()), expected, "{headers:?}");
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_this_host() {
        for host in ["127.0.0.1", "127.0.0.1:7009", "[::1]:7009", "LocalHost:7009", "rescind.internal"] {
            check(&[("host", host)], Version::HTTP_11, Ok(()));
        }
    }

    #[test]
    fn any_other_name_and_none_at_all_are_not() {
        for host in ["", "evil.example", "evil.example:7009", "127.0.0.1.evil.example", "localhost.evil.example"] {
            check(&[("host", host)], Version::HTTP_11, Err(StatusCode::MISDIRECTED_REQUEST));
        }
        check(&[], Version::HTTP_11, Err(StatusCode::MISDIRECTED_REQUEST));
        check(&[("host", "localhost"), ("host", "evil.example")], Version::HTTP_11, Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn any_name_will_do_through_a_unix_socket_but_no_foreign_origin() {
        let from = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/v1/check").extension(Peer::Unix);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            judge(&request.body(Body::empty()).unwrap(), &[]).map_err(|problem| problem.status())
        };
        for headers in [&[][..], &[("host", "")], &[("host", "localhost")], &[("host", "rescind.sock")]] {
            assert_eq!(from(headers), Ok(()), "{headers:?}");
        }
        let foreign = [("host", "localhost"), ("origin", "http://evil.example")];
        assert_eq!(from(&foreign), Err(StatusCode::FORBIDDEN));
    }

    #[test]
    fn an_origin_must_be_this_very_host() {
        let from =
            |origin, expected| check(&[("host", "127.0.0.1:7009"), ("origin", origin)], Version::HTTP_11, expected);
        from("http://127.0.0.1:7009", Ok(()));
        for origin in ["http://127.0.0.1:8080", "http://evil.example", "null", ""] {
            from(origin, Err(StatusCode::FORBIDDEN));
        }
    }

    #[test]
    fn grpc_is_answered_over_http_2_only_and_under_any_name() {
        let grpc = [("host", "rescind.svc"), ("content-type", "application/grpc")];
        check(&grpc, Version::HTTP_2, Ok(()));
        check(&grpc, Version::HTTP_11, Err(StatusCode::HTTP_VERSION_NOT_SUPPORTED));
        check(&[grpc[0], grpc[1], ("origin", "http://evil.example")], Version::HTTP_2, Err(StatusCode::FORBIDDEN));
    }
}
