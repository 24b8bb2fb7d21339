//! The members of a token that verification rests on, read strictly: the JOSE header (RFC 7515 §4.1) and the registered claims
//! (RFC 7519 §4.1).
//!
//! Claims forget types, since selectors do; what decides whether a token is accepted must not.

use super::date::NumericDate;
use super::json::Event;
use crate::revocation::{UnixSeconds, VALUE_BYTES_MAX};

/// Of the header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) alg: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) typ: Option<String>,
    /// The payload is a token itself (`cty`, RFC 7519 §5.2).
    pub(super) is_nested: bool,
    /// `crit` or `b64` is there, whatever it says: nothing is understood here that would have to be (RFC 7515 §4.1.11, RFC 7797).
    pub(super) is_extended: bool,
    /// Something has a type that it cannot have, or is too long.
    is_wrong: bool,
}

/// Of the payload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) exp: Option<NumericDate>,
    pub(super) nbf: Option<NumericDate>,
    pub(super) iat: Option<NumericDate>,
    is_wrong: bool,
}

/// Follows the events of one JSON object and tells its own members from what lies deeper.
#[derive(Default)]
struct Members {
    depth: usize,
    name: Name,
}

/// The member whose value is being read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Alg,
    Kid,
    Typ,
    Cty,
    Extension,
    Exp,
    Nbf,
    Iat,
    /// `iss`, `sub`, `jti`: a text.
    Text,
    /// A text or an array of texts.
    Aud,
}

impl Members {
    /// The member that a value belongs to, if it is one of the object itself; in an array, of that.
    fn take(&mut self, event: &Event<'_>, named: impl Fn(&str) -> Name) -> Option<Name> {
        let depth = self.depth;
        match event {
            Event::Name(name) if depth == 1 => self.name = named(name),
            Event::Name(_) => {}
            Event::EndObject | Event::EndArray => self.depth -= 1,
            Event::BeginObject | Event::BeginArray => self.depth += 1,
            Event::String(_) | Event::Number(_) | Event::Bool(_) | Event::Null => {}
        }
        let is_value = !matches!(event, Event::Name(_) | Event::EndObject | Event::EndArray);
        (is_value && (depth == 1 || depth == 2 && self.name == Name::Aud)).then_some(self.name)
    }
}

impl Header {
    /// What takes the events of a header.
    pub(super) fn reader(&mut self) -> impl FnMut(Event<'_>) + '_ {
        let mut members = Members::default();
        move |event| {
            let named = |name: &str| match name {
                "alg" => Name::Alg,
                "kid" => Name::Kid,
                "typ" => Name::Typ,
                "cty" => Name::Cty,
                "crit" | "b64" => Name::Extension,
                _ => Name::Other,
            };
            if let Some(name) = members.take(&event, named) {
                self.member(name, &event);
            }
        }
    }

    fn member(&mut self, name: Name, event: &Event<'_>) {
        let place = match name {
            Name::Alg => &mut self.alg,
            Name::Kid => &mut self.kid,
            Name::Typ => &mut self.typ,
            Name::Cty => {
                // Only a token can be nested in a token; other content is judged as claims.
                self.is_nested |= !matches!(event, Event::String(text) if !is_token(text));
                return;
            }
            Name::Extension => {
                self.is_extended = true;
                return;
            }
            _ => return,
        };
        match event {
            Event::String(text) if text.len() <= VALUE_BYTES_MAX => *place = Some((*text).to_owned()),
            _ => self.is_wrong = true,
        }
    }

    /// Whether every member has a type it can have.
    pub(super) fn is_sound(&self) -> bool {
        !self.is_wrong
    }
}

/// Whether a `cty` says that a token lies within: `JWT`, in any spelling.
fn is_token(cty: &str) -> bool {
    let kind = cty.rsplit('/').next().unwrap_or(cty);
    kind.len() >= 3 && kind.is_char_boundary(kind.len() - 3) && kind[kind.len() - 3..].eq_ignore_ascii_case("jwt")
}

impl Registered {
    /// What takes the events of a payload.
    pub(super) fn reader(&mut self) -> impl FnMut(Event<'_>) + '_ {
        let mut members = Members::default();
        move |event| {
            let named = |name: &str| match name {
                "exp" => Name::Exp,
                "nbf" => Name::Nbf,
                "iat" => Name::Iat,
                "iss" | "sub" | "jti" => Name::Text,
                "aud" => Name::Aud,
                _ => Name::Other,
            };
            let begins_audiences =
                matches!(event, Event::BeginArray) && members.depth == 1 && members.name == Name::Aud;
            if let Some(name) = members.take(&event, named)
                && !begins_audiences
            {
                self.member(name, &event);
            }
        }
    }

    fn member(&mut self, name: Name, event: &Event<'_>) {
        let time = match name {
            Name::Exp => &mut self.exp,
            Name::Nbf => &mut self.nbf,
            Name::Iat => &mut self.iat,
            Name::Text | Name::Aud => {
                self.is_wrong |= !matches!(event, Event::String(_));
                return;
            }
            _ => return,
        };
        match event {
            Event::Number(number) => *time = Some(NumericDate::parse(number)),
            _ => self.is_wrong = true,
        }
    }

    /// Whether every member has a type it can have.
    pub(super) fn is_sound(&self) -> bool {
        !self.is_wrong
    }
}

impl NumericDate {
    /// Whether it lies after `time`.
    pub(super) fn is_after(self, time: UnixSeconds) -> bool {
        match self {
            Self::BeforeEpoch => false,
            Self::At(at) => at > time,
            Self::BeyondRange => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::json::Scanner;

    fn header(json: &str) -> Header {
        let mut header = Header::default();
        Scanner::default().scan(json.as_bytes(), header.reader()).unwrap();
        header
    }

    fn registered(json: &str) -> Registered {
        let mut registered = Registered::default();
        Scanner::default().scan(json.as_bytes(), registered.reader()).unwrap();
        registered
    }

    #[test]
    fn only_members_of_the_header_itself_count() {
        let read = header(
            r#"{"x":{"alg":"none","crit":[]},"y":["kid",{"kid":7}],"alg":"ES256","kid":"k","typ":"JWT","jwk":{"kid":"z"}}"#,
        );
        let alg = Some("ES256".to_owned());
        assert_eq!(read, Header { alg, kid: Some("k".into()), typ: Some("JWT".into()), ..Header::default() });
    }

    #[test]
    fn an_extension_is_seen_whatever_it_says() {
        for json in [
            r#"{"crit":[]}"#,
            r#"{"crit":null}"#,
            r#"{"crit":["exp"]}"#,
            r#"{"b64":false}"#,
            r#"{"b64":true}"#,
            r#"{"\u0063rit":1}"#,
        ] {
            assert!(header(json).is_extended, "{json}");
        }
    }

    #[test]
    fn a_token_in_a_token_is_seen() {
        for cty in ["\"JWT\"", "\"jwt\"", "\"application/jwt\"", "\"at+jwt\"", "7", "[\"x\"]"] {
            assert!(header(&format!("{{\"cty\":{cty}}}")).is_nested, "{cty}");
        }
        for cty in ["\"json\"", "\"\"", "\"é\""] {
            assert!(!header(&format!("{{\"cty\":{cty}}}")).is_nested, "{cty}");
        }
    }

    #[test]
    fn a_member_of_another_type_is_wrong() {
        for json in [r#"{"alg":null}"#, r#"{"alg":["ES256"]}"#, r#"{"kid":7}"#, r#"{"typ":{}}"#] {
            assert!(!header(json).is_sound(), "{json}");
        }
        assert!(!header(&format!("{{\"kid\":\"{}\"}}", "x".repeat(VALUE_BYTES_MAX + 1))).is_sound());
        for json in [
            r#"{"exp":"1"}"#,
            r#"{"exp":null}"#,
            r#"{"nbf":[1]}"#,
            r#"{"iat":true}"#,
            r#"{"iss":1}"#,
            r#"{"sub":["a"]}"#,
            r#"{"jti":{}}"#,
            r#"{"aud":1}"#,
            r#"{"aud":["a",1]}"#,
            r#"{"aud":[["a"]]}"#,
            r#"{"aud":{"a":"b"}}"#,
        ] {
            assert!(!registered(json).is_sound(), "{json}");
        }
        let good =
            registered(r#"{"aud":["a","b"],"exp":1.5,"nbf":-1,"x":{"exp":"1","aud":1},"y":[1,{"iss":2}],"iss":"i"}"#);
        assert!(good.is_sound());
        assert_eq!(good.exp, Some(NumericDate::At(UnixSeconds(1))));
        assert_eq!((good.nbf, good.iat), (Some(NumericDate::BeforeEpoch), None));
    }
}
