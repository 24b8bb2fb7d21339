use proptest::prelude::*;

use super::*;

fn issuer(iss: &str) -> Issuer {
    Issuer {
        iss: iss.to_owned(),
        audiences: vec!["api".to_owned()],
        algorithms: vec![Algorithm::ES256],
        types: vec![TokenType::AccessToken, TokenType::Jwt],
        leeway_seconds: 60,
        keys: KeySource::Discovery,
    }
}

fn class(name: &str) -> RouteClass {
    RouteClass { name: name.to_owned(), issuers: vec![], audiences: vec![], scopes: vec![], claims: vec![] }
}

fn refused(issuers: Vec<Issuer>, classes: Vec<RouteClass>) -> String {
    VerificationPolicy::new(issuers, classes).unwrap_err().to_string()
}

#[test]
fn each_broken_rule_is_named_with_its_field() {
    let a = || issuer("https://a.example");
    let with = |change: &dyn Fn(&mut Issuer)| {
        let mut issuer = a();
        change(&mut issuer);
        refused(vec![issuer], vec![])
    };
    assert_eq!(with(&|i| i.audiences.clear()), "issuers[0].audiences: at least one");
    assert_eq!(with(&|i| i.audiences.push("api".into())), "issuers[0].audiences: is there twice");
    assert_eq!(with(&|i| i.algorithms.clear()), "issuers[0].algorithms: at least one");
    assert_eq!(with(&|i| i.algorithms.push(Algorithm::ES256)), "issuers[0].algorithms: is there twice");
    assert_eq!(with(&|i| i.types.clear()), "issuers[0].types: at least one");
    assert_eq!(with(&|i| i.leeway_seconds = 301), "issuers[0].leeway: at most 300 seconds");
    assert_eq!(with(&|i| i.iss.clear()), "issuers[0].iss: 1 to 1024 bytes, 0 given");
    assert_eq!(
        with(&|i| i.keys = KeySource::Inline("x".repeat(32 * 1024 + 1))),
        "issuers[0].keys: 1 to 32768 bytes, 32769 given"
    );
    assert_eq!(
        with(&|i| i.keys = KeySource::File("keys.json".into())),
        "issuers[0].keys: a file is named by its absolute path"
    );
    assert_eq!(refused(vec![a(), a()], vec![]), "issuers: is there twice");
    let many = (0..65).map(|n| issuer(&format!("https://{n}.example"))).collect();
    assert_eq!(refused(many, vec![]), "issuers: at most 64, 65 given");
    assert_eq!(refused(vec![a()], vec![class("x"), class("x")]), "classes: is there twice");

    let with = |change: &dyn Fn(&mut RouteClass)| {
        let mut class = class("orders");
        change(&mut class);
        refused(vec![a()], vec![class])
    };
    let claim = |name: &str, values: &[&str]| RequiredClaim {
        name: name.into(),
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    assert_eq!(with(&|c| c.name = "a/b".into()), "classes[0].name: ASCII letters, digits, '-', '_' and '.' only");
    assert_eq!(with(&|c| c.name = "x".repeat(65)), "classes[0].name: 1 to 64 bytes, 65 given");
    let unknown = "classes[0].issuers: names an issuer that the policy does not have";
    assert_eq!(with(&|c| c.issuers = vec!["https://b.example".into()]), unknown);
    assert_eq!(
        with(&|c| c.scopes = vec!["a b".into()]),
        "classes[0].scopes: printable ASCII without space, '\"' and '\\'"
    );
    assert_eq!(
        with(&|c| c.claims = vec![claim("tid", &[]), claim("tid", &["1"])]),
        "classes[0].claims: is there twice"
    );
    assert_eq!(with(&|c| c.claims = vec![claim("tid", &["1", "1"])]), "classes[0].claims: is there twice");
    let own = "classes[0].claims: iss, aud, scope and times have rules of their own";
    assert_eq!(with(&|c| c.claims = vec![claim("aud", &["x"])]), own);
    assert_eq!(with(&|c| c.claims = vec![claim("x", &[""])]), "classes[0].claims: 1 to 1024 bytes, 0 given");
}

#[test]
fn an_error_says_where_it_stands_in_what_was_written() {
    let mut wrong = issuer("https://a.example");
    wrong.audiences.clear();
    assert_eq!(refused(vec![issuer("https://z.example"), wrong], vec![]), "issuers[1].audiences: at least one");
    let (mut named, issuers) = (class("a"), vec![issuer("https://z.example")]);
    named.issuers = vec!["https://b.example".into()];
    let expected = "classes[1].issuers: names an issuer that the policy does not have";
    assert_eq!(refused(issuers, vec![class("z"), named]), expected);
}

#[test]
fn keys_come_over_https_or_from_this_machine() {
    let accepted = |url: &str| {
        let mut issuer = issuer("anything");
        issuer.keys = KeySource::Url(url.to_owned());
        VerificationPolicy::new(vec![issuer], vec![]).is_ok()
    };
    let good = [
        "https://a.example/keys",
        "https://a.example",
        "http://localhost:8080/k",
        "http://127.0.0.1/k",
        "http://[::1]:1/k",
    ];
    for url in good {
        assert!(accepted(url), "{url}");
    }
    for url in [
        "http://a.example/keys",
        "http://localhost.a.example/",
        "http://127.0.0.1.example/",
        "http://[::1].example",
        "https://",
        "https:///keys",
        "https://u:p@a.example/",
        "http://localhost@a.example/",
        "https://a.example/#x",
        "https://a.example/ x",
        "file:///etc/passwd",
        "ftp://a.example",
        "keys",
    ] {
        assert!(!accepted(url), "{url}");
    }
    assert!(VerificationPolicy::new(vec![issuer("http://a.example")], vec![]).is_err(), "discovery follows the issuer");
}

#[test]
fn a_type_is_recognised_in_every_spelling() {
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert_eq!(TokenType::of(Some(typ)), Some(TokenType::AccessToken), "{typ}");
    }
    assert_eq!(TokenType::of(Some("jwt")), Some(TokenType::Jwt));
    assert_eq!(TokenType::of(None), Some(TokenType::Absent));
    for typ in ["", "absent", "JWE", "dpop+jwt", "application/", "logout+jwt", "é", "applicationé/jwt"] {
        assert_eq!(TokenType::of(Some(typ)), None, "{typ}");
    }
}

#[test]
fn the_bytes_of_a_policy_stay_what_they_are() {
    let mut one = issuer("https://a.example");
    one.keys = KeySource::Url("https://a.example/k".into());
    let mut orders = class("orders");
    orders.scopes = vec!["w".into(), "r".into()];
    orders.claims = vec![RequiredClaim { name: "tid".into(), values: vec!["7".into()] }];
    let policy = VerificationPolicy::new(vec![one], vec![orders]).unwrap();
    let mut expected = vec![1, 0, 17, 0];
    expected.extend_from_slice(b"https://a.example");
    expected.extend_from_slice(&[1, 0, 3, 0]);
    expected.extend_from_slice(b"api");
    expected.extend_from_slice(&[0x40, 0, 0b011, 60, 0, 1, 19, 0]);
    expected.extend_from_slice(b"https://a.example/k");
    expected.extend_from_slice(&[1, 0, 6, 0]);
    expected.extend_from_slice(b"orders");
    expected
        .extend_from_slice(&[0, 0, 0, 0, 2, 0, 1, 0, b'r', 1, 0, b'w', 1, 0, 3, 0, b't', b'i', b'd', 1, 0, 1, 0, b'7']);
    assert_eq!(policy.encode(), expected);
    assert_eq!(VerificationPolicy::decode(&expected), Ok(policy));
}

fn names(max: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-z]{1,6}", 0..max).prop_map(|set| set.into_iter().collect())
}

prop_compose! {
    fn any_issuer()(
        iss in "https://[a-z]{1,8}\\.example", audiences in names(4), algorithms in 1u16..512, types in 1u8..8,
        leeway_seconds in 0u16..=300, source in 0..4, text in "[a-z]{1,9}",
    ) -> Issuer {
        let chosen = |index: usize, bits: u16| bits & 1 << index != 0;
        Issuer {
            iss,
            audiences: audiences.into_iter().chain(["always".to_owned()]).collect(),
            algorithms: (0..9).filter(|n| chosen(*n, algorithms)).map(|n| Algorithm::ALL[n]).collect(),
            types: (0..3).filter(|n| chosen(*n, types.into())).map(|n| TokenType::ALL[n]).collect(),
            leeway_seconds,
            keys: match source {
                0 => KeySource::Discovery,
                1 => KeySource::Url(format!("https://{text}")),
                2 => KeySource::File(format!("/{text}")),
                _ => KeySource::Inline(text),
            },
        }
    }
}

prop_compose! {
    fn any_class()(
        name in "[a-z]{1,8}", audiences in names(3), scopes in names(3), claims in names(3), values in names(3),
    ) -> RouteClass {
        let claims = claims.into_iter().filter(|name| name != "aud" && name != "scope" && name != "iss");
        RouteClass {
            name, issuers: vec![], audiences, scopes,
            claims: claims.filter(|n| !["exp", "nbf", "iat", "scp"].contains(&n.as_str()))
                .map(|name| RequiredClaim { name, values: values.clone() }).collect(),
        }
    }
}

proptest! {
    #[test]
    fn a_policy_survives_its_bytes_in_any_order_it_was_written(
        issuers in prop::collection::btree_map("[a-z]{1,5}", any_issuer(), 0..5),
        classes in prop::collection::btree_map("[a-z]{1,5}", any_class(), 0..5),
    ) {
        let mut issuers: Vec<_> = issuers.into_iter().map(|(key, i)| Issuer { iss: format!("{}/{key}", i.iss), ..i }).collect();
        let mut classes: Vec<_> = classes.into_iter().map(|(key, c)| RouteClass { name: key, ..c }).collect();
        let policy = VerificationPolicy::new(issuers.clone(), classes.clone()).unwrap();
        prop_assert_eq!(VerificationPolicy::decode(&policy.encode()), Ok(policy.clone()));
        issuers.reverse();
        classes.reverse();
        prop_assert_eq!(VerificationPolicy::new(issuers, classes).unwrap().encode(), policy.encode());
    }

    #[test]
    fn other_bytes_are_refused_or_the_canonical_ones(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(policy) = VerificationPolicy::decode(&bytes) {
            prop_assert_eq!(policy.encode(), bytes);
        }
    }
}
