//! What the server says of itself (RFC 8414 §2).

use std::fmt;
use std::str::FromStr;

use serde_json::json;

use super::{Endpoints, INTROSPECT, REVOKE};

/// The longest public URL, in bytes.
pub const PUBLIC_URL_BYTES_MAX: usize = 1024;

/// Where clients reach this server: the issuer identifier of RFC 8414 §2. Without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(String);

/// The text is no public URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a public URL is https (http to this machine only), has at most {PUBLIC_URL_BYTES_MAX} bytes, and no user, query and fragment"
)]
pub struct PublicUrlError;

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = url::Url::parse(text).map_err(|_| PublicUrlError)?;
        let is_here = match url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => return Err(PublicUrlError),
        };
        let is_secure = url.scheme() == "https" || (url.scheme() == "http" && is_here);
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_bare = url.query().is_none() && url.fragment().is_none();
        if is_secure && is_plain && is_bare && text.len() <= PUBLIC_URL_BYTES_MAX {
            return Ok(Self(url.as_str().trim_end_matches('/').to_owned()));
        }
        Err(PublicUrlError)
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The document. No tokens are made here, so there is no endpoint for that. A list of response types is required all the same and
/// must not be empty (RFC 8414 §2, §3.2): `none` is the type that asks for nothing.
pub(super) fn document(url: &PublicUrl, endpoints: &Endpoints) -> String {
    let asks = endpoints.desk.authentication;
    // The names of RFC 7591 §2 and RFC 8705 §2.1.
    let mut methods = vec![if asks { "client_secret_basic" } else { "none" }];
    if asks && endpoints.options.by_certificate {
        methods.push("tls_client_auth");
    }
    // Beside those, introspection may name a type of access token (RFC 8414 §2).
    let introspection: Vec<&str> = methods.iter().copied().chain(asks.then_some("Bearer")).collect();
    let mut document = json!({
        "issuer": url.0,
        "response_types_supported": ["none"],
        "introspection_endpoint": format!("{url}{INTROSPECT}"),
        "introspection_endpoint_auth_methods_supported": introspection,
    });
    // An agent revokes nothing.
    if endpoints.desk.node.reports.status().following.is_none() {
        document["revocation_endpoint"] = format!("{url}{REVOKE}").into();
        document["revocation_endpoint_auth_methods_supported"] = methods.into();
    }
    document.to_string()
}
