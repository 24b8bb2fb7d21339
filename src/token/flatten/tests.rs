//! Which values are found under which names.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::super::json::Scanner;
use super::*;
use crate::revocation::UnixSeconds;

fn flatten(text: &str, root: Root) -> Claims {
    let mut claims = Claims::new();
    let mut scratch = Scratch::default();
    let mut flattening = Flattening::new(&mut claims, root, &mut scratch);
    Scanner::default().scan(text.as_bytes(), |event| flattening.handle(event)).unwrap();
    claims
}

fn found(claims: &Claims, name: &str) -> Vec<(String, bool)> {
    claims.values(name).map(|value| (value.text.to_owned(), value.in_array)).collect()
}

#[track_caller]
fn check(root: Root, json: &str, name: &str, scalars: &[&str]) {
    let expected: Vec<_> = scalars.iter().map(|text| ((*text).to_owned(), false)).collect();
    assert_eq!(found(&flatten(json, root), name), expected, "{name} in {json}");
}

#[track_caller]
fn check_array(json: &str, name: &str, elements: &[&str]) {
    let expected: Vec<_> = elements.iter().map(|text| ((*text).to_owned(), true)).collect();
    assert_eq!(found(&flatten(json, Root::Payload), name), expected, "{name} in {json}");
}

#[test]
fn scalars_are_found_by_their_canonical_text() {
    for (value, text) in [
        (r#""alice""#, "alice"),
        (r#""\u0061\/é""#, "a/é"),
        (r#"" Case kept ""#, " Case kept "),
        ("42", "42"),
        ("0", "0"),
        ("-0", "0"),
        ("1.0", "1"),
        ("1e0", "1"),
        ("-17", "-17"),
        ("999999999999999", "999999999999999"),
        ("9007199254740991", "9007199254740991"),
        ("true", "true"),
        ("false", "false"),
    ] {
        check(Root::Payload, &format!(r#"{{"c":{value}}}"#), "c", &[text]);
    }
}

#[test]
fn what_no_selector_can_hold_is_not_found() {
    let long = format!(r#""{}""#, "v".repeat(1025));
    for value in ["null", r#""""#, "{}", r#"{"c":1}"#, "[]", "1.5", "9007199254740992", "1e99", &long] {
        check(Root::Payload, &format!(r#"{{"c":{value}}}"#), "c", &[]);
    }
    check(Root::Payload, r#"{"":1}"#, "", &[]);
    let longest = "v".repeat(1024);
    check(Root::Payload, &format!(r#"{{"c":"{longest}"}}"#), "c", &[&longest]);
    let (name, too_long) = ("n".repeat(NAME_BYTES_MAX), "n".repeat(NAME_BYTES_MAX + 1));
    check(Root::Payload, &format!(r#"{{"{name}":1,"{too_long}":2}}"#), &name, &["1"]);
    check(Root::Payload, &format!(r#"{{"{name}":1,"{too_long}":2}}"#), &too_long, &[]);
}

#[test]
fn arrays_give_their_scalar_elements_and_nothing_nested() {
    check_array(r#"{"c":["a",1,true,null,"",1.5,{"x":1},["b"],"z"]}"#, "c", &["a", "1", "true", "z"]);
    check_array(r#"{"c":[{"x":1}]}"#, "c.x", &[]);
    check_array(r#"{"realm_access":{"roles":["r","s"]}}"#, "realm_access.roles", &["r", "s"]);
    check_array(r#"{"a":{"b":[[["x"]],{"y":["z"]},"w"],"n":1}}"#, "a.b", &["w"]);
    check(Root::Payload, r#"{"a":{"b":[["x"],{"y":1}],"n":1}}"#, "a.n", &["1"]);
}

#[test]
fn a_dotted_name_is_a_literal_and_a_path() {
    let json = r#"{"a.b":1,"a":{"b":2}}"#;
    check(Root::Payload, json, "a.b", &["1", "2"]);
    check(Root::Payload, r#"{"a":{"b":{"c":"x"},"d":"y"},"e":"z"}"#, "a.b.c", &["x"]);
    check(Root::Payload, r#"{"a":{"b":{"c":"x"},"d":"y"},"e":"z"}"#, "a.d", &["y"]);
    check(Root::Payload, r#"{"https://example.com/tenant":"t"}"#, "https://example.com/tenant", &["t"]);
    check_array(r#"{"https://example.com/roles":["t"]}"#, "https://example.com/roles", &["t"]);
}

#[test]
fn a_name_with_a_dot_is_no_step_of_a_path() {
    check(Root::Payload, r#"{"a.b":{"c":1}}"#, "a.b.c", &[]);
    check(Root::Payload, r#"{"a":{"b.c":1}}"#, "a.b.c", &[]);
    check(Root::Payload, r#"{"a":{"b.c":{"d":1},"e":2}}"#, "a.b.c.d", &[]);
    check(Root::Payload, r#"{"a":{"b.c":{"d":1},"e":2}}"#, "a.e", &["2"]);
}

#[test]
fn header_members_are_found_under_their_prefix_only() {
    let json = r#"{"kid":"k","jwk":{"crv":"P-256"},"x.y":1,"token_sha256":"t","header":{"z":2}}"#;
    check(Root::Header, json, "header.kid", &["k"]);
    check(Root::Header, json, "kid", &[]);
    check(Root::Header, json, "header.jwk.crv", &["P-256"]);
    check(Root::Header, json, "header.x.y", &["1"]);
    check(Root::Header, json, "token_sha256", &[]);
    check(Root::Header, json, "header.header.z", &["2"]);
    assert_eq!(flatten(r#"{"iat":5,"exp":6}"#, Root::Header).iat, None);
}

#[test]
fn a_payload_cannot_speak_for_the_header_or_the_hash() {
    let json = r#"{"header.kid":"k","header":{"kid":"k","a":{"b":1}},"header.":1,"token_sha256":"t"}"#;
    for name in ["header.kid", "header", "header.a.b", "header.", "token_sha256"] {
        check(Root::Payload, json, name, &[]);
    }
    check(Root::Payload, r#"{"header":"h"}"#, "header", &["h"]);
    check_array(r#"{"header":["h"]}"#, "header", &["h"]);
    check(Root::Payload, r#"{"headers":{"kid":"k"}}"#, "headers.kid", &["k"]);
    check(Root::Payload, r#"{"token_sha256":{"x":"y"}}"#, "token_sha256.x", &["y"]);
    check(Root::Payload, r#"{"a":{"token_sha256":"y"}}"#, "a.token_sha256", &["y"]);
}

#[test]
fn times_are_top_level_numbers_floored() {
    let times = |json: &str| {
        let claims = flatten(json, Root::Payload);
        (claims.iat, claims.auth_time, claims.exp)
    };
    let at = |seconds| Some(UnixSeconds(seconds));
    assert_eq!(times(r#"{"iat":1.9,"auth_time":2e0,"exp":3}"#), (at(1), at(2), at(3)));
    assert_eq!(times(r#"{"iat":"1","auth_time":null,"exp":[3]}"#), (None, None, None));
    assert_eq!(times(r#"{"a":{"iat":1,"exp":3},"iat.":1}"#), (None, None, None));
    assert_eq!(times(r#"{"iat":-1,"auth_time":-0.5,"exp":-1}"#), (at(0), at(0), None));
    assert_eq!(times(r#"{"iat":1e30,"auth_time":1e99,"exp":1e30}"#), (None, None, at(u64::MAX)));
    check(Root::Payload, r#"{"iat":1700000000}"#, "iat", &["1700000000"]);
}

/// The rules once more, the other way round: not "which names does this have" but "what does this name mean".
fn look_up(object: &Map<String, Json>, name: &str) -> Vec<(String, bool)> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name == "token_sha256" || name.starts_with("header.") {
        return vec![];
    }
    let literal = object.get(name);
    let (first, rest) = name.split_once('.').unwrap_or((name, ""));
    let path = name
        .contains('.')
        .then(|| rest.split('.').try_fold(object.get(first)?, |value, step| value.as_object()?.get(step)))
        .flatten();
    let texts = |value: &Json| match value {
        Json::Array(elements) => elements.iter().filter_map(canonical).map(|text| (text, true)).collect(),
        scalar => canonical(scalar).map(|text| (text, false)).into_iter().collect::<Vec<_>>(),
    };
    literal.into_iter().chain(path).flat_map(texts).collect()
}

fn canonical(scalar: &Json) -> Option<String> {
    let text = match scalar {
        Json::Bool(value) => value.to_string(),
        Json::String(text) => text.clone(),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => (integer.unsigned_abs() < 1 << 53).then(|| integer.to_string())?,
            None => {
                let double = number.as_f64()?;
                (double.fract() == 0.0 && double.abs() < 9007199254740992.0).then(|| format!("{}", double + 0.0))?
            }
        },
        _ => return None,
    };
    (1..=1024).contains(&text.len()).then_some(text)
}

/// Every name that could mean something: the members' own and all paths.
fn names(value: &Json, prefix: Option<&str>, into: &mut BTreeSet<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        into.insert(name.clone());
        let path = prefix.map_or(name.clone(), |prefix| format!("{prefix}.{name}"));
        names(value, Some(&path), into);
        into.insert(path);
    }
}

/// The same JSON with every character of every string escaped.
fn escaped(value: &Json) -> String {
    let string = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>();
    match value {
        Json::String(text) => format!("\"{}\"", string(text)),
        Json::Array(elements) => format!("[{}]", elements.iter().map(escaped).collect::<Vec<_>>().join(",")),
        Json::Object(object) => {
            let member = |(name, value): (&String, &Json)| format!("\"{}\":{}", string(name), escaped(value));
            format!("{{{}}}", object.iter().map(member).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-100i32..100).prop_map(|quarters| json!(f64::from(quarters) / 4.0)),
        (9_007_199_254_740_989i64..9_007_199_254_740_994).prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        "[a-z\"\\\\\n]{0,12}".prop_map(Json::from),
    ];
    let name = prop_oneof![
        4 => "[ab]{1,2}",
        2 => "[ab]\\.[ab]",
        2 => prop::sample::select(&["iss", "header", "header.kid", "token_sha256", "", ".", "cnf", "iat"][..])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    scalar.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            3 => prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_looking_names_up_in_a_parsed_tree(value in any_json()) {
        let value = if value.is_object() { value } else { json!({ "a": value }) };
        let object = value.as_object().unwrap();
        let mut all = BTreeSet::new();
        names(&value, None, &mut all);
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), escaped(&value)] {
            let claims = flatten(&text, Root::Payload);
            let mut count = 0;
            for name in &all {
                let (mut ours, mut theirs) = (found(&claims, name), look_up(object, name));
                ours.sort();
                theirs.sort();
                prop_assert_eq!(&ours, &theirs, "{:?}", name);
                count += ours.len();
            }
            prop_assert_eq!(format!("{claims:?}"), format!("Claims({count} values hidden)"));
        }
    }
}
