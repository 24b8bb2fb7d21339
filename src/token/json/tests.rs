//! What the scanner takes, what it refuses and where.

use proptest::prelude::*;

use super::*;

fn scan(json: &[u8]) -> Result<Vec<String>, JsonError> {
    let mut events = Vec::new();
    Scanner::default().scan(json, |event| events.push(format!("{event:?}")))?;
    Ok(events)
}

fn refused(json: impl AsRef<[u8]>, problem: JsonProblem, offset: usize) {
    let json = json.as_ref();
    assert_eq!(scan(json), Err(problem.at(offset)), "{}", String::from_utf8_lossy(json));
}

#[test]
fn events_come_in_the_order_of_the_text() {
    let events = scan(br#" { "a" : [ 1 , {"b":null}, true ] , "c" : {} , "d":"x\u0079" , "e":[] } "#).unwrap();
    let expected = [
        "BeginObject",
        r#"Name("a")"#,
        "BeginArray",
        r#"Number("1")"#,
        "BeginObject",
        r#"Name("b")"#,
        "Null",
        "EndObject",
        "Bool(true)",
        "EndArray",
        r#"Name("c")"#,
        "BeginObject",
        "EndObject",
        r#"Name("d")"#,
        r#"String("xy")"#,
        r#"Name("e")"#,
        "BeginArray",
        "EndArray",
        "EndObject",
    ];
    assert_eq!(events, expected);
}

#[test]
fn only_an_object_is_taken_and_nothing_may_follow_it() {
    for json in ["", " ", "[]", "\"a\"", "1", "null", "\u{feff}{}", "}"] {
        refused(json, JsonProblem::NotAnObject, json.len() - json.trim_start().len());
    }
    refused("{} x", JsonProblem::TrailingBytes, 3);
    refused("{}{}", JsonProblem::TrailingBytes, 2);
    refused("{}\0", JsonProblem::TrailingBytes, 2);
    assert!(scan(b"\t{}\r\n ").is_ok());
}

#[test]
fn structure_is_strict() {
    use JsonProblem::{UnexpectedByte, UnexpectedEnd};
    for (json, offset) in [
        ("{,}", 1),
        (r#"{"a":1,}"#, 7),
        (r#"{"a"}"#, 4),
        (r#"{"a":}"#, 5),
        (r#"{"a" 1}"#, 5),
        (r#"{"a":1 "b":2}"#, 7),
        (r#"{"a":1]"#, 6),
        (r#"{"a":[1}"#, 7),
        (r#"{"a":[1,]}"#, 8),
        (r#"{"a":[,]}"#, 6),
        (r#"{"a":[1 2]}"#, 8),
        ("{a:1}", 1),
        ("{'a':1}", 1),
        ("{1:1}", 1),
        ("{/**/}", 1),
        (r#"{"a":tru}"#, 5),
        (r#"{"a":True}"#, 5),
        (r#"{"a":nul"#, 5),
        (r#"{"a":truex}"#, 9),
        (r#"{"a":NaN}"#, 5),
        (r#"{"a":+1}"#, 5),
        (r#"{"a":.5}"#, 5),
        (r#"{"a":0x1}"#, 6),
    ] {
        refused(json, UnexpectedByte, offset);
    }
    for json in
        ["{", r#"{"a"#, r#"{"a""#, r#"{"a":"#, r#"{"a":1"#, r#"{"a":1,"#, r#"{"a":["#, r#"{"a":[1,"#, r#"{"\u00"#]
    {
        refused(json, UnexpectedEnd, json.len());
    }
}

#[test]
fn numbers_follow_the_grammar() {
    for number in ["0", "-0", "10", "-1.50", "1e9", "1E+9", "1.0e-09", "123456789012345678901234567890"] {
        assert!(scan(format!(r#"{{"n":{number}}}"#).as_bytes()).is_ok(), "{number}");
    }
    for (number, at) in [("01", 1), ("-01", 2), ("-", 1), ("1.", 2), ("1.e1", 2), ("1e", 2), ("1e+", 3), ("-a", 1)] {
        refused(format!(r#"{{"n":{number}}}"#), JsonProblem::InvalidNumber, 5 + at);
    }
}

#[test]
fn strings_are_unescaped() {
    let events = scan(r#"{"n":"\"\\\/\b\f\n\r\t\u0000\u00e9\ud83d\ude00é😀"}"#.as_bytes()).unwrap();
    assert_eq!(events[2], format!("{:?}", Event::String("\"\\/\u{8}\u{c}\n\r\t\0é😀é😀")));
}

#[test]
fn broken_strings_are_refused() {
    for (string, problem, at) in [
        ("\n", JsonProblem::ControlCharacter, 0),
        ("abcdefgh\u{1f}", JsonProblem::ControlCharacter, 8),
        ("\\n\0", JsonProblem::ControlCharacter, 2),
        (r"\x", JsonProblem::InvalidEscape, 0),
        (r"\u12g4", JsonProblem::InvalidEscape, 0),
        (r"\u+123", JsonProblem::InvalidEscape, 0),
        (r"\u1é23", JsonProblem::InvalidEscape, 0),
        (r"\ud800", JsonProblem::LoneSurrogate, 0),
        (r"\udc00", JsonProblem::LoneSurrogate, 0),
        (r"a\ud83dx", JsonProblem::LoneSurrogate, 1),
        (r"\ud83d\ud83d", JsonProblem::LoneSurrogate, 0),
        (r"\ud83d\u0041", JsonProblem::LoneSurrogate, 0),
        (r"\ud83d\n", JsonProblem::LoneSurrogate, 0),
    ] {
        refused(format!(r#"{{"n":"{string}"}}"#), problem, 6 + at);
        refused(format!(r#"{{"{string}":1}}"#), problem, 2 + at);
    }
    refused(b"{\"n\":\"a\xff\"}", JsonProblem::InvalidUtf8, 7);
    refused(b"{\"n\":\"\xed\xa0\x80\"}", JsonProblem::InvalidUtf8, 6);
}

#[test]
fn a_name_occurs_once_per_object_however_it_is_written() {
    refused(r#"{"a":1,"b":2,"a":3}"#, JsonProblem::DuplicateName, 13);
    refused(r#"{"a":1,"\u0061":2}"#, JsonProblem::DuplicateName, 7);
    refused(r#"{"x":[{"a":1,"a":2}]}"#, JsonProblem::DuplicateName, 13);
    refused(r#"{"":1,"":2}"#, JsonProblem::DuplicateName, 6);
    refused(r#"{"longer than eight":1,"longer than eight":2}"#, JsonProblem::DuplicateName, 23);
    for json in [r#"{"a":{"a":{"a":1}}}"#, r#"{"a":{"b":1},"b":{"b":1}}"#, r#"{"a":1,"a\u0000":2}"#] {
        assert!(scan(json.as_bytes()).is_ok(), "{json}");
    }
}

#[test]
fn duplicates_are_found_among_many_names() {
    for count in [PAIRWISE_NAMES_MAX, PAIRWISE_NAMES_MAX + 1, 3_000] {
        let members: Vec<String> = (0..count).map(|i| format!(r#""common{i}":{i}"#)).collect();
        let distinct = members.join(",");
        assert!(scan(format!("{{{distinct}}}").as_bytes()).is_ok());
        let inner = format!(r#"{{"x":{{{distinct},"common7":0}},"y":0}}"#);
        refused(inner, JsonProblem::DuplicateName, 7 + distinct.len());
    }
}

#[test]
fn nesting_and_size_are_bounded() {
    let nested = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(scan(nested(DEPTH_MAX).as_bytes()).is_ok());
    refused(nested(DEPTH_MAX + 1), JsonProblem::TooDeep, 5 + DEPTH_MAX - 1);
    refused(r#"{"a":"#.repeat(1000), JsonProblem::TooDeep, 5 * DEPTH_MAX);

    let sized = |bytes: usize| format!("{{}}{}", " ".repeat(bytes - 2));
    assert!(scan(sized(JSON_BYTES_MAX).as_bytes()).is_ok());
    refused(sized(JSON_BYTES_MAX + 1), JsonProblem::TooLong, JSON_BYTES_MAX + 1);
}

#[test]
fn errors_say_where_and_never_what() {
    let error = scan(br#"{"secret":1,"secret":2}"#).unwrap_err();
    assert_eq!(error.to_string(), "duplicate name at byte 12");
}

/// Valid objects with a few edits, so that most inputs fail late.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    const SEEDS: [&str; 3] = [
        r#"{"iss":"https://a.example","aud":["x","y"],"iat":1700000000.5,"cnf":{"jkt":"k"}}"#,
        r#"{"a":{"b":[{"c":null},true,-0.1e+2]},"\u0061\ud83d\ude00":"\n\\","d":""}"#,
        r#" { "a" : 0 , "b" : [ ] , "c" : { } } "#,
    ];
    const EDITS: [&[u8]; 22] = [
        b"{", b"}", b"[", b"]", b",", b":", b"\"", b"\\", b"\"a\"", b"\\u0061", b"\\ud800", b"\\udc00", b"1", b"-",
        b".", b"e", b"0", b"true", b"null", b" ", b"\x01", b"\xff",
    ];
    let edit = (any::<prop::sample::Index>(), prop::sample::select(&EDITS[..]), 0usize..3);
    (prop::sample::select(&SEEDS[..]), prop::collection::vec(edit, 0..4)).prop_map(|(seed, edits)| {
        let mut json = seed.as_bytes().to_vec();
        for (place, with, removed) in edits {
            let at = place.index(json.len() + 1);
            let end = (at + removed).min(json.len());
            json.splice(at..end, with.iter().copied());
        }
        json
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_input_panics(json in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&json);
        let mut object = b"{\"a\":\"".to_vec();
        object.extend(json);
        let _ = scan(&object);
    }

    #[test]
    fn accepts_what_an_independent_parser_accepts(json in nearly_json()) {
        let theirs = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&json);
        match (scan(&json), theirs) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            // Keeps the last of two equal names, and refuses numbers that a double cannot hold.
            (Err(error), Ok(_)) => prop_assert_eq!(error.problem, JsonProblem::DuplicateName),
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("number out of range"), "{error}"),
        }
    }
}
