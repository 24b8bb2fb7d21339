//! What is told of a token that is active (RFC 7662 §2.2).

use serde_json::{Map, Value};

use crate::token::Allowed;

/// All that is told of any other.
pub(super) const INACTIVE: &str = r#"{"active":false}"#;
/// The members that are told as the token has them: those of §2.2, and the key that it is bound to (RFC 8705 §3.2).
const TOLD: [&str; 8] = ["sub", "aud", "iss", "jti", "exp", "iat", "nbf", "cnf"];

/// The answer for a token that is active.
pub(super) fn active(allowed: &Allowed) -> String {
    let mut claims: Map<String, Value> = serde_json::from_str(&allowed.payload).unwrap_or_default();
    let mut told = Map::new();
    told.insert("active".to_owned(), true.into());
    let is_bound = claims.get("cnf").is_some_and(|cnf| cnf.get("jkt").is_some());
    // RFC 9449 §6.2.
    told.insert("token_type".to_owned(), if is_bound { "DPoP" } else { "Bearer" }.into());
    if !allowed.scopes.is_empty() {
        told.insert("scope".to_owned(), allowed.scopes.join(" ").into());
    }
    if let Some(client_id) = &allowed.client_id {
        told.insert("client_id".to_owned(), client_id.as_str().into());
    }
    let username = ["username", "preferred_username"].into_iter().find_map(|name| claims.get(name)?.as_str());
    if let Some(username) = username {
        told.insert("username".to_owned(), username.into());
    }
    for name in TOLD {
        if let Some(value) = claims.remove(name) {
            told.insert(name.to_owned(), value);
        }
    }
    Value::Object(told).to_string()
}
