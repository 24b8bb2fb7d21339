//! `application/x-www-form-urlencoded` requests (RFC 6749, appendix B), read strictly.

use std::str;

use axum::extract::Request;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use zeroize::Zeroizing;

use super::OAuthError;
use crate::security::basic::form_decoded;
use crate::surface::body::read_body;
use crate::token::TOKEN_BYTES_MAX;

/// The most bytes of a form: the longest token, whose characters need no encoding, and the rest.
const FORM_BYTES_MAX: usize = TOKEN_BYTES_MAX + 4096;
/// The most parameters.
const PARAMETERS_MAX: usize = 32;
/// The longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Other ways for a client to prove who it is, which are not taken here (RFC 6749 §2.3).
const OTHER_PROOFS: [&str; 2] = ["client_secret", "client_assertion"];

/// The parameters of a request, each there once. Those without a value are as if they were not there (RFC 6749 §3.2).
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// The form that a request holds.
    pub(super) async fn read(request: Request) -> Result<Self, OAuthError> {
        if !is_form(request.headers()) {
            return Err(OAuthError::invalid("the Content-Type must be application/x-www-form-urlencoded".to_owned()));
        }
        Self::parse(&read_body(request, FORM_BYTES_MAX).await?)
    }

    pub(super) fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let invalid = |what: &str| OAuthError::invalid(what.to_owned());
        let text = str::from_utf8(body).map_err(|_| invalid("the form is not UTF-8"))?;
        let given = text.split('&').filter(|pair| !pair.is_empty());
        let count = given.clone().count();
        if count > PARAMETERS_MAX {
            return Err(OAuthError::invalid(format!("a form has at most {PARAMETERS_MAX} parameters, {count} given")));
        }
        let mut parameters: Vec<(String, Zeroizing<String>)> = Vec::with_capacity(count);
        for pair in given {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decoded(name).filter(|name| name.len() <= NAME_BYTES_MAX);
            let name = name.ok_or_else(|| invalid("the name of a parameter is malformed or too long"))?;
            let value = form_decoded(value).ok_or_else(|| invalid("the value of a parameter is malformed"))?;
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(invalid("a parameter is given twice"));
            }
            parameters.push((name, Zeroizing::new(value)));
        }
        let form = Self(parameters);
        if OTHER_PROOFS.iter().any(|name| form.value(name).is_some()) {
            return Err(invalid(
                "a client proves who it is by the Authorization header or a certificate, not in the form",
            ));
        }
        Ok(form)
    }

    /// The value of a parameter, if it has one.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of one that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<&str, OAuthError> {
        self.value(name).ok_or_else(|| OAuthError::invalid(format!("the parameter {name} is missing")))
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Form, String> {
        Form::parse(body.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_examples_of_the_rfcs_are_read() {
        // RFC 7662 §2.1, twice.
        let form = parse("token=2YotnFZFEjr1zCsicMWpAA").unwrap();
        assert_eq!(form.needed("token").unwrap(), "2YotnFZFEjr1zCsicMWpAA");
        let form = parse("token=mF_9.B5f-4.1JqM&token_type_hint=access_token").unwrap();
        assert_eq!(
            (form.value("token"), form.value("token_type_hint")),
            (Some("mF_9.B5f-4.1JqM"), Some("access_token"))
        );
        // RFC 7009 §2.1.
        let form = parse("token=45ghiukldjahdnhzdauz&token_type_hint=refresh_token").unwrap();
        assert_eq!(form.value("token_type_hint"), Some("refresh_token"));
    }

    #[test]
    fn what_has_no_value_is_as_if_it_were_not_there_and_what_is_unknown_is_ignored() {
        for body in ["", "token=", "token", "&&", "x=1&token"] {
            let error = parse(body).unwrap().needed("token").unwrap_err().to_string();
            assert!(error.contains("the parameter token is missing"), "{body}: {error}");
        }
        assert_eq!(parse("&resource=a&token=t+%2b&").unwrap().value("token"), Some("t +"));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        let many = "a=1&".repeat(PARAMETERS_MAX + 1);
        for (body, part) in [
            ("token=a&token=b", "twice"),
            ("token=a&%74oken=b", "twice"),
            ("a=1&a=1&token=t", "twice"),
            ("token=%", "malformed"),
            ("token=%ff", "malformed"),
            ("%zz=1", "malformed"),
            (many.as_str(), "at most 32 parameters, 33 given"),
            ("token=a&client_secret=b", "Authorization header"),
            ("token=a&client_id=c&client_assertion=b", "Authorization header"),
        ] {
            let error = parse(body).err().unwrap_or_else(|| panic!("{body} is accepted"));
            assert!(error.contains(part), "{body}: {error}");
        }
        assert!(parse(&format!("{}=1", "n".repeat(65))).is_err());
        assert!(Form::parse(b"token=\xff").is_err());
    }
}
