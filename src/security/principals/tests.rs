//! What a principals file may say, and how each mistake in it is named.

use super::*;
use crate::security::CertificateNames;
use crate::security::credential::mint;

const MINIMAL: &str = "[[principal]]\nname = 'a'\ncertificate = 'dns:a.example'\nroles = ['check']\n";

fn parse(text: &str) -> Result<Principals, String> {
    Principals::parse(text, Path::new("/etc/rescind/principals.toml")).map_err(|error| error.to_string())
}

fn check_refused(text: &str, parts: &[&str]) {
    let error = parse(text).unwrap_err();
    for part in [&["/etc/rescind/principals.toml", "line "], parts].concat() {
        assert!(error.contains(part), "{part:?} is missing in {error:?}");
    }
}

#[test]
fn a_principal_has_a_grant_and_what_proves_it() {
    let minted = mint().unwrap();
    let text = format!(
        "[[principal]]\nname = 'checkout'\ncertificate = 'spiffe://example.org/ns/checkout'\ncredential = '{}'\n\
         roles = ['revoke', 'check']\nissuers = ['https://a']\nclaims = ['sub']\nwrites_per_minute = 60\n",
        minted.hashed()
    );
    let principals = parse(&text).unwrap();
    let Listed { principal: found, certificate, credential } = principals.iter().next().unwrap();
    assert_eq!(certificate.clone().unwrap().to_string(), "spiffe://example.org/ns/checkout");
    assert_eq!(*credential, Some(minted.hashed()));
    assert_eq!(found.name, "checkout");
    assert!(found.grant.roles.allow(Role::Revoke) && !found.grant.roles.allow(Role::Admin));
    assert_eq!(found.grant.issuers.as_deref(), Some(&["https://a".to_owned()][..]));
    assert_eq!(found.grant.writes_per_minute, Some(60));
    assert_eq!(principals.count(), 1);
    assert_eq!(parse("").unwrap().count(), 0, "nobody is let in");
}

#[test]
fn each_wrong_key_and_value_is_named_with_its_line() {
    for (line, parts) in [
        ("role = ['check']", &["unknown field `role`", "line 5"][..]),
        ("writes_per_minute = 0", &["writes_per_minute: 1 to", "0 given", "line 5"]),
        ("writes_per_minute = 1", &["bounds the role revoke", "line 1"]),
        ("issuers = ['https://a']", &["issuers: bounds the role revoke"]),
        ("claims = []", &["1 to 32, 0 given"]),
        ("claims = ['']", &["1 to 128 bytes each, 0 given"]),
        ("claims = ['sub', 'sub']", &["twice"]),
        ("credential = 'x'", &["rsc-sha256:id:salt:digest", "mint"]),
    ] {
        check_refused(&format!("{MINIMAL}{line}"), parts);
    }
    let with = |name: &str, rest: &str| format!("[[principal]]\nname = '{name}'\n{rest}");
    check_refused(&with("", ""), &["name: 1 to 128 bytes", "line 2", "0 bytes given"]);
    check_refused(&with(&"x".repeat(129), ""), &["129 bytes given"]);
    check_refused(&with("anonymous@x", ""), &["anonymous@"]);
    check_refused(&with("a", "roles = ['check']"), &["needs a certificate or a credential"]);
    check_refused(&with("a", "certificate = 'dns:a'\nroles = []"), &["roles: at least one", "line 4"]);
    check_refused(&with("a", "certificate = 'dns:a'\nroles = ['root']"), &["\"root\" is no role", "line 4"]);
    check_refused(&with("a", "certificate = 'dns:a'"), &["missing field `roles`"]);
}

#[test]
fn what_two_principals_share_is_refused() {
    let credential = mint().unwrap().hashed();
    let second = |field: &str| format!("{MINIMAL}[[principal]]\nname = 'b'\nroles = ['check']\n{field}\n");
    check_refused(&format!("{MINIMAL}{MINIMAL}"), &["line 5", "name: \"a\"", "line 1 already"]);
    check_refused(&second("certificate = 'dns:A.example'"), &["line 5", "certificate: is that of \"a\""]);
    let first =
        format!("{}[[principal]]\nname = 'c'\nroles = ['check']\n", second(&format!("credential = '{credential}'")));
    check_refused(&format!("{first}credential = '{credential}'"), &["line 9", "credential: is that of \"b\""]);
}

#[test]
fn there_are_at_most_so_many() {
    let entry = |n: usize| format!("[[principal]]\nname = '{n}'\ncertificate = 'dns:a{n}'\nroles = ['check']\n");
    let most: String = (0..PRINCIPALS_MAX).map(entry).collect();
    assert_eq!(parse(&most).unwrap().count(), PRINCIPALS_MAX);
    let error = parse(&format!("{most}{}", entry(PRINCIPALS_MAX))).unwrap_err();
    assert!(error.contains("at most 10000 principals, 10001 given"), "{error}");
}

#[test]
fn a_secret_in_the_wrong_place_is_refused_and_not_repeated() {
    let secret = mint().unwrap().text;
    let error = parse(&format!("{MINIMAL}credential = '{}'", secret.as_str())).unwrap_err();
    assert!(error.contains("this is a secret") && !error.contains(&secret[21..]), "{error}");
}

#[test]
fn certificate_names_have_a_shape() {
    for good in ["spiffe://example.org/a", "spiffe://a.b-c_d/x/Y.z-_1", "dns:a", "dns:A-1.example.org"] {
        assert!(good.parse::<CertificateName>().is_ok(), "{good}");
    }
    assert_eq!("dns:GATE.Example".parse(), Ok(CertificateName::Dns("gate.example".into())));
    let long = format!("spiffe://a/{}", "x".repeat(2048));
    for (wrong, part) in [
        ("", "neither"),
        ("a.example", "neither"),
        ("SPIFFE://a/b", "neither"),
        ("https://a/b", "neither"),
        ("spiffe://a", "no path"),
        ("spiffe:///b", "trust domain"),
        ("spiffe://A/b", "trust domain"),
        ("spiffe://a:1/b", "trust domain"),
        ("spiffe://u@a/b", "trust domain"),
        ("spiffe://a/", "path"),
        ("spiffe://a/b/", "path"),
        ("spiffe://a/../b", "path"),
        ("spiffe://a/b?c", "path"),
        ("spiffe://a/b%20", "path"),
        (&long, "2048"),
        ("dns:", "DNS name"),
        ("dns:*.example.org", "wildcard"),
        ("dns:-a", "DNS name"),
        ("dns:a..b", "DNS name"),
    ] {
        let error = wrong.parse::<CertificateName>().unwrap_err().to_string();
        assert!(error.contains(part), "{wrong}: {error}");
    }
}

#[test]
fn of_a_certificate_only_spiffe_ids_and_dns_names_count() {
    let names = CertificateNames {
        uris: vec!["https://a/b".into(), "spiffe://a/b".into()],
        dns_names: vec!["Gate.example".into()],
    };
    let all: Vec<String> = CertificateName::all(&names).map(|name| name.to_string()).collect();
    assert_eq!(all, ["spiffe://a/b", "dns:gate.example"]);
}

#[test]
fn a_file_that_everybody_can_write_and_one_that_is_too_large_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("principals.toml");
    assert!(matches!(Principals::read(&path), Err(PrincipalsError::Unreadable { .. })));
    std::fs::write(&path, MINIMAL).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o646);
    assert!(Principals::read(&path).unwrap_err().to_string().contains("mode 646"));
    mode(0o640);
    assert_eq!(Principals::read(&path).unwrap().count(), 1);
    std::fs::write(&path, "#".repeat(PRINCIPALS_BYTES_MAX as usize + 1)).unwrap();
    assert!(matches!(Principals::read(&path), Err(PrincipalsError::TooLarge { .. })));
}

fn jwt(more: &str) -> String {
    let head = "[[jwt]]\nname = 'idp'\nissuer = 'https://a.example'\naudience = 'rescind'\nalgorithms = ['ES256']\n";
    format!("{head}claim = 'groups'\n{more}")
}

const MAPPED: &str = "[[jwt.map]]\nvalue = 'ops'\nroles = ['admin']\n";

#[test]
fn an_issuer_whose_tokens_are_trusted_is_verified_as_the_file_says() {
    let text = jwt(&format!("types = ['absent']\nkeys = '/etc/keys.json'\nleeway_seconds = 5\n{MAPPED}"));
    let tokens = parse(&text).unwrap().into_tokens();
    let issuer = tokens.policy().issuer("https://a.example").unwrap();
    assert_eq!((issuer.leeway_seconds, issuer.audiences.as_slice()), (5, &["rescind".to_owned()][..]));
    assert_eq!(issuer.keys, crate::revocation::verification::KeySource::File("/etc/keys.json".into()));
    let tokens = parse(&jwt(MAPPED)).unwrap().into_tokens();
    let issuer = tokens.policy().issuer("https://a.example").unwrap();
    assert_eq!((issuer.leeway_seconds, issuer.types.len()), (60, 2));
    assert_eq!(issuer.keys, crate::revocation::verification::KeySource::Discovery);
    assert_eq!(parse(MINIMAL).unwrap().into_tokens().count(), 0);
}

#[test]
fn each_mistake_in_a_trusted_issuer_is_named_with_its_line() {
    let cases: [(&str, &[&str]); 11] = [
        ("", &["missing field `map`"]),
        ("map = []", &["line 1", "map: 1 to 256 values, 0 given"]),
        ("role = 'x'", &["unknown field `role`", "line 7"]),
        (&format!("keys = 'http://a.example/keys'\n{MAPPED}"), &["line 1", "keys: an https URL"]),
        (&format!("leeway_seconds = 301\n{MAPPED}"), &["leeway: at most 300 seconds"]),
        (&format!("types = ['jwt']\n{MAPPED}"), &["types: one of at+jwt, JWT, absent", "line 7"]),
        (&format!("types = []\n{MAPPED}"), &["types: at least one"]),
        (&format!("{MAPPED}{MAPPED}"), &["map.value: one is given twice"]),
        (&format!("{}claims = ['sub']", MAPPED.replace("admin", "check")), &["claims: bounds the role revoke", "idp"]),
        (&format!("{MAPPED}extra = 1"), &["unknown field `extra`", "line 10"]),
        ("[[jwt.map]]\nvalue = ''\nroles = ['admin']", &["1 to 1024 bytes, 0 given", "line 8"]),
    ];
    for (more, parts) in cases {
        check_refused(&jwt(more), parts);
    }
    let hs = jwt(MAPPED).replace("['ES256']", "['HS256']");
    check_refused(&hs, &["algorithms: one of RS256", "line 5"]);
    check_refused(&jwt(MAPPED).replace("['ES256']", "[]"), &["algorithms: at least one"]);
    check_refused(&jwt(MAPPED).replace("'idp'", "'i/p'"), &["name: 1 to 32 ASCII letters", "line 2"]);
    check_refused(&jwt(MAPPED).replace("https:", "http:"), &["issuer: an https URL"]);
    let twice = format!("{}{}", jwt(MAPPED), jwt(MAPPED));
    check_refused(&twice, &["line 10", "another [[jwt]] has this name or issuer"]);
    check_refused(&MINIMAL.replace("'a'", "'jwt:idp/a'"), &["begins with jwt:"]);
    let many: String = (0..65)
        .map(|n| jwt(MAPPED).replace("idp", &format!("i{n}")).replace("a.example", &format!("a{n}.example")))
        .collect();
    let error = parse(&many).unwrap_err();
    assert!(error.contains("issuers: at most 64, 65 given"), "{error}");
}
