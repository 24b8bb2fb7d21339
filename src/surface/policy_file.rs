//! The text of a verification policy: TOML, as operators write it and as it is shown.
//!
//! ```toml
//! [[issuer]]
//! iss = "https://idp.example"
//! audiences = ["api"]
//! algorithms = ["ES256"]
//! types = ["at+jwt", "JWT"]     # the default
//! leeway_seconds = 60           # the default
//! # Where its keys come from: discovery below iss, unless one of these says otherwise.
//! # keys_url = "https://idp.example/keys"
//! # keys_file = "/etc/rescind/idp.jwks"
//! # keys_inline = '{"keys":[…]}'
//!
//! [[class]]
//! name = "orders"
//! scopes = ["orders.read"]
//! claims = [{ name = "tenant_id", values = ["a", "b"] }]
//! ```
//!
//! Only parses: the rules are the type's. Every error names the line, the field and the limit, and shows nothing of the line.
//! Unknown keys are refused: a misspelt condition is not a missing one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::revocation::ports::POLICY_SOURCE_BYTES_MAX;
use crate::revocation::verification::{
    Algorithm, CLASSES_MAX, ISSUERS_MAX, Issuer, KeySource, RequiredClaim, RouteClass, TokenType, VerificationError,
    VerificationPolicy,
};

/// How far clocks may differ where the text does not say.
const LEEWAY_SECONDS: u16 = 60;

/// Why a text is no verification policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PolicyTextError {
    /// Where, from 1 on; `None`: all of it.
    pub line: Option<usize>,
    /// The field, what is wrong with it, and the limit.
    pub message: String,
}

impl fmt::Display for PolicyTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Text<I, C> {
    #[serde(default = "Vec::new")]
    issuer: Vec<I>,
    #[serde(default = "Vec::new")]
    class: Vec<C>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct IssuerText {
    iss: String,
    audiences: Vec<String>,
    algorithms: Vec<String>,
    #[serde(default = "default_types")]
    types: Vec<String>,
    #[serde(default = "default_leeway")]
    leeway_seconds: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_inline: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ClassText {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    issuers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claims: Vec<ClaimText>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct ClaimText {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    values: Vec<String>,
}

fn default_types() -> Vec<String> {
    vec![TokenType::AccessToken.name().to_owned(), TokenType::Jwt.name().to_owned()]
}

fn default_leeway() -> u16 {
    LEEWAY_SECONDS
}

/// Parses the text of a policy.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_policy(text: &str) -> Result<VerificationPolicy, PolicyTextError> {
    let whole = |message: String| PolicyTextError { line: None, message };
    if text.len() > POLICY_SOURCE_BYTES_MAX {
        let given = text.len();
        return Err(whole(format!("the text has at most {POLICY_SOURCE_BYTES_MAX} bytes, {given} given")));
    }
    let parsed: Text<Spanned<IssuerText>, Spanned<ClassText>> = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        // The first line only: below it the parser shows the text itself.
        let message = error.message().lines().next().unwrap_or_default().to_owned();
        PolicyTextError { line, message }
    })?;
    for (what, given, limit) in
        [("issuer", parsed.issuer.len(), ISSUERS_MAX), ("class", parsed.class.len(), CLASSES_MAX)]
    {
        if given > limit {
            return Err(whole(format!("{what}: at most {limit}, {given} given")));
        }
    }
    let issuers = judged(text, parsed.issuer, "iss", |issuer| {
        let issuer = issuer.parsed()?;
        VerificationPolicy::new(vec![issuer.clone()], Vec::new()).map_err(|error| of_item(&error))?;
        Ok((issuer.iss.clone(), issuer))
    })?;
    let classes = judged(text, parsed.class, "name", |class| {
        let class = class.parsed();
        VerificationPolicy::new(issuers.clone(), vec![class.clone()]).map_err(|error| of_item(&error))?;
        Ok((class.name.clone(), class))
    })?;
    VerificationPolicy::new(issuers, classes).map_err(|error| whole(error.to_string()))
}

/// A text of the policy, for where the one that was applied is not kept.
#[must_use]
pub fn render_policy(policy: &VerificationPolicy) -> String {
    let text = Text {
        issuer: policy.issuers().iter().map(IssuerText::of).collect(),
        class: policy.classes().iter().map(ClassText::of).collect(),
    };
    toml::to_string(&text).expect("texts, numbers and lists of them can be written as TOML")
}

/// Each item by itself, so that its error has its line; no two may share the field that names them.
fn judged<T, U>(
    text: &str,
    items: Vec<Spanned<T>>,
    key: &str,
    judge: impl Fn(T) -> Result<(String, U), String>,
) -> Result<Vec<U>, PolicyTextError> {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    let mut judged = Vec::with_capacity(items.len());
    for item in items {
        let line = line_of(text, item.span().start);
        let at_line = |message| PolicyTextError { line: Some(line), message };
        let (name, item) = judge(item.into_inner()).map_err(at_line)?;
        if let Some(before) = lines.insert(name, line) {
            return Err(at_line(format!("{key}: is that of line {before} already")));
        }
        judged.push(item);
    }
    Ok(judged)
}

/// The error of a policy that holds one item to judge: the item stands where the line is, so its place says nothing.
fn of_item(error: &VerificationError) -> String {
    let message = error.to_string();
    let field = message.strip_prefix("issuers[0].").or_else(|| message.strip_prefix("classes[0]."));
    field.map_or_else(|| message.clone(), str::to_owned)
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

impl IssuerText {
    fn parsed(self) -> Result<Issuer, String> {
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        let algorithms = self.algorithms.iter().map(|name| Algorithm::named(name)).collect::<Option<_>>();
        let algorithms = algorithms.ok_or_else(|| format!("algorithms: each is one of {names}"))?;
        let named = |name: &String| TokenType::ALL.into_iter().find(|one| one.name() == name);
        let types = self.types.iter().map(named).collect::<Option<_>>();
        let types =
            types.ok_or_else(|| format!("types: each is one of {}", TokenType::ALL.map(TokenType::name).join(", ")))?;
        let keys = match (self.keys_url, self.keys_file, self.keys_inline) {
            (None, None, None) => KeySource::Discovery,
            (Some(url), None, None) => KeySource::Url(url),
            (None, Some(path), None) => KeySource::File(path),
            (None, None, Some(set)) => KeySource::Inline(set),
            _ => return Err("keys_url, keys_file, keys_inline: at most one of them".to_owned()),
        };
        let Self { iss, audiences, leeway_seconds, .. } = self;
        Ok(Issuer { iss, audiences, algorithms, types, leeway_seconds, keys })
    }

    fn of(issuer: &Issuer) -> Self {
        let (mut keys_url, mut keys_file, mut keys_inline) = (None, None, None);
        match &issuer.keys {
            KeySource::Discovery => {}
            KeySource::Url(url) => keys_url = Some(url.clone()),
            KeySource::File(path) => keys_file = Some(path.clone()),
            KeySource::Inline(set) => keys_inline = Some(set.clone()),
        }
        Self {
            iss: issuer.iss.clone(),
            audiences: issuer.audiences.clone(),
            algorithms: issuer.algorithms.iter().map(|one| one.name().to_owned()).collect(),
            types: issuer.types.iter().map(|one| one.name().to_owned()).collect(),
            leeway_seconds: issuer.leeway_seconds,
            keys_url,
            keys_file,
            keys_inline,
        }
    }
}

impl ClassText {
    fn parsed(self) -> RouteClass {
        let Self { name, issuers, audiences, scopes, claims } = self;
        let claims = claims.into_iter().map(|ClaimText { name, values }| RequiredClaim { name, values }).collect();
        RouteClass { name, issuers, audiences, scopes, claims }
    }

    fn of(class: &RouteClass) -> Self {
        let RouteClass { name, issuers, audiences, scopes, claims } = class.clone();
        let claims = claims.into_iter().map(|RequiredClaim { name, values }| ClaimText { name, values }).collect();
        Self { name, issuers, audiences, scopes, claims }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "[[issuer]]\niss = \"https://a.example\"\naudiences = [\"api\"]\nalgorithms = [\"ES256\"]\n";

    fn refused(text: &str) -> String {
        parse_policy(text).unwrap_err().to_string()
    }

    #[test]
    fn a_text_is_parsed_with_its_defaults_and_shown_again() {
        let text = format!(
            "{ISSUER}\n[[class]]\nname = \"orders\"\nissuers = [\"https://a.example\"]\nscopes = [\"read\"]\n\
             claims = [{{ name = \"tenant_id\", values = [\"x\"] }}, {{ name = \"sub\" }}]\n"
        );
        let policy = parse_policy(&text).unwrap();
        let issuer = policy.issuer("https://a.example").unwrap();
        assert_eq!((issuer.leeway_seconds, &issuer.keys), (60, &KeySource::Discovery));
        assert_eq!(issuer.types, [TokenType::AccessToken, TokenType::Jwt]);
        assert_eq!(policy.class("orders").unwrap().claims.len(), 2);
        assert_eq!(parse_policy(&render_policy(&policy)), Ok(policy));
        assert_eq!(parse_policy("").map(|policy| policy.issuers().len()), Ok(0));
        let keys = ["keys_url = \"https://a.example/k\"", "keys_file = \"/k\"", "keys_inline = '''{\n\"}'''"];
        for keys in keys {
            let policy = parse_policy(&format!("{ISSUER}{keys}\n")).unwrap();
            assert_ne!(policy.issuers()[0].keys, KeySource::Discovery, "{keys}");
            assert_eq!(parse_policy(&render_policy(&policy)), Ok(policy), "{keys}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_field_and_not_shown() {
        let second = format!("{ISSUER}\n{}", ISSUER.replace("a.example", "b.example"));
        for (text, expected) in [
            ("[[issuer]]\nsecret = 1\n".to_owned(), "line 2: unknown field `secret`"),
            ("[[issuer]]\niss = \"x\"\n".to_owned(), "line 1: missing field `audiences`"),
            (format!("# a\n{ISSUER}leeway_seconds = 301\n"), "line 2: leeway: at most 300 seconds"),
            (
                second.replace("b.example\"\naudiences = [\"api\"]", "b.example\"\naudiences = []"),
                "line 6: audiences: at least one",
            ),
            (second.replace("b.example", "a.example"), "line 6: iss: is that of line 1 already"),
            (ISSUER.replace("ES256", "HS256"), "line 1: algorithms: each is one of RS256,"),
            (ISSUER.replace("ES256", "none"), "line 1: algorithms: each is one of RS256,"),
            (format!("{ISSUER}types = [\"dpop\"]\n"), "line 1: types: each is one of at+jwt, JWT, absent"),
            (
                format!("{ISSUER}keys_file = \"/k\"\nkeys_url = \"https://k\"\n"),
                "line 1: keys_url, keys_file, keys_inline: at most one of them",
            ),
            (
                format!("{ISSUER}\n[[class]]\nname = \"x\"\nissuers = [\"https://b\"]\n"),
                "line 6: issuers: names an issuer that the policy does not have",
            ),
            (
                "[[class]]\nname = \"x\"\n[[class]]\nname = \"x\"\n".to_owned(),
                "line 3: name: is that of line 1 already",
            ),
            ("issuer = [".to_owned(), "line 1: "),
        ] {
            let message = refused(&text);
            assert!(message.starts_with(expected), "{message:?} instead of {expected:?}");
        }
        let many: String = (0..10_000).map(|n| format!("[[class]]\nname=\"{n}\"\n")).collect();
        assert!(refused(&many).contains("at most 131072 bytes"));
        let many: String = (0..1_000).map(|n| format!("[[class]]\nname=\"{n}\"\n")).collect();
        assert_eq!(refused(&many), "class: at most 256, 1000 given");
        let many: String = (0..65).map(|n| ISSUER.replace("a.example", &format!("{n}.example"))).collect();
        assert_eq!(refused(&many), "issuer: at most 64, 65 given");
    }
}
