//! Where an issuer says that its keys are (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).

use serde::Deserialize;

use crate::revocation::verification::is_key_url;

/// Why a discovery document does not lead to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("the discovery document is malformed, at line {line}, column {column}")]
    Malformed { line: usize, column: usize },
    #[error("the discovery document is of another issuer")]
    OtherIssuer,
    #[error("the jwks_uri of the discovery document is no https URL")]
    KeyUrl,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Where the document of an issuer is looked for, in this order: below it, then where RFC 8414 §3.1 puts it.
pub(crate) fn urls(iss: &str) -> [String; 2] {
    let iss = iss.trim_end_matches('/');
    let host_from = iss.find("://").map_or(0, |at| at + 3);
    let path_from = iss[host_from..].find('/').map_or(iss.len(), |at| host_from + at);
    let (origin, path) = iss.split_at(path_from);
    [
        format!("{iss}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
}

/// The `jwks_uri` of a document of this issuer.
pub(crate) fn keys_url(iss: &str, document: &[u8]) -> Result<String, DiscoveryError> {
    let document: Document = serde_json::from_slice(document)
        .map_err(|error| DiscoveryError::Malformed { line: error.line(), column: error.column() })?;
    // Discovery 1.0 §4.3: exactly.
    if document.issuer != iss {
        return Err(DiscoveryError::OtherIssuer);
    }
    let is_as_safe = document.jwks_uri.starts_with("https://") || !iss.starts_with("https://");
    if is_as_safe && is_key_url(&document.jwks_uri) { Ok(document.jwks_uri) } else { Err(DiscoveryError::KeyUrl) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_looked_for_in_both_places() {
        assert_eq!(
            urls("https://a.example/tenant/1/"),
            [
                "https://a.example/tenant/1/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/tenant/1",
            ]
        );
        assert_eq!(urls("https://a.example")[1], "https://a.example/.well-known/oauth-authorization-server");
    }

    #[test]
    fn only_the_issuers_own_document_leads_to_keys() {
        let document = |issuer: &str, uri: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{uri}","x":[1]}}"#);
        let of = |iss: &str, text: String| keys_url(iss, text.as_bytes());
        let (iss, uri) = ("https://a.example", "https://keys.example/k");
        assert_eq!(of(iss, document(iss, uri)), Ok(uri.to_owned()));
        assert_eq!(of(iss, document("https://a.example/", uri)), Err(DiscoveryError::OtherIssuer));
        for uri in ["http://keys.example/k", "http://localhost/k", "file:///etc/passwd", ""] {
            assert_eq!(of(iss, document(iss, uri)), Err(DiscoveryError::KeyUrl), "{uri}");
        }
        let here = "http://localhost:1";
        assert_eq!(of(here, document(here, "http://localhost:1/k")), Ok("http://localhost:1/k".to_owned()));
        for text in ["", "[]", "{}", r#"{"issuer":"https://a.example"}"#, "<html>"] {
            assert!(matches!(of(iss, text.to_owned()), Err(DiscoveryError::Malformed { .. })), "{text}");
        }
    }
}
