//! Precedence, refusals and the sample file.

use http::StatusCode;

use super::*;
use crate::revocation::Policy;
use crate::security::tls::{ClientAuthority, ServerFiles};
use crate::surface;

fn places() -> StatePlaces {
    StatePlaces { home: Some("/home/me".into()), ..StatePlaces::default() }
}

fn load(toml: &str, overrides: &Overrides) -> Result<ServerConfig, ConfigError> {
    ServerConfig::from_toml(toml, Path::new("rescind.toml"), overrides, &places())
}

/// Asserts that `toml` is refused with a message that holds all of `parts`.
fn check_refused(toml: &str, parts: &[&str]) {
    let message = load(toml, &Overrides::default()).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{toml}\n{part:?} is missing in: {message}");
    }
}

#[test]
fn an_empty_file_and_none_at_all_give_the_defaults() {
    let config = load("", &Overrides::default()).unwrap();
    assert_eq!(config, ServerConfig::load(&Overrides::default(), &places()).unwrap());
    assert_eq!(config.listen.to_string(), "127.0.0.1:7009");
    assert_eq!(config.ops_listen.to_string(), "127.0.0.1:7010");
    assert_eq!(config.policy, Policy::default());
    assert_eq!(config.data_dir, Path::new("/home/me/.local/state/rescind"));
    assert_eq!(config.surface.unknown_status, StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn limits_follow_from_the_number_of_connections_unless_they_are_given() {
    let bounds = |toml: &str| load(toml, &Overrides::default()).unwrap().surface.bounds;
    let surface::Bounds { connections, requests_max, .. } = bounds("limits.connections = 400");
    assert_eq!((connections, requests_max), (surface::Limits::of(400), 4096));
    assert_eq!((connections.unproven, connections.per_address, connections.per_principal), (100, 300, 300));
    let given = bounds(
        "[limits]\nconnections = 400\nconnections_unproven = 1\nconnections_per_address = 2\n\
         connections_per_principal = 3\nrequests = 4",
    );
    let expected = surface::Limits { total: 400, unproven: 1, per_address: 2, per_principal: 3 };
    assert_eq!((given.connections, given.requests_max), (expected, 4));
    for key in
        ["connections", "connections_unproven", "connections_per_address", "connections_per_principal", "requests"]
    {
        check_refused(&format!("limits.{key} = 0"), &[key, "expected a number from 1 to 1000000, 0 given"]);
    }
}

#[test]
fn the_sample_holds_every_key_with_its_default() {
    let sample = load(include_str!("../../docs/rescind.toml"), &Overrides::default()).unwrap();
    let default = load("", &Overrides::default()).unwrap();
    let examples = surface::Options {
        issuers: vec!["https://login.example.com".into()],
        hosts: vec!["rescind.internal".into()],
        data_dir: "/var/lib/rescind".into(),
        oauth: surface::oauth::Options {
            public_url: "https://rescind.example.org".parse().ok(),
            class: Some("orders".into()),
            by_certificate: true,
        },
        ..default.surface.clone()
    };
    let clients = ClientAuthority {
        authorities: "/etc/rescind/client-ca.pem".into(),
        revoked: Some("/etc/rescind/client-ca.crl".into()),
        is_required: false,
    };
    let files = ServerFiles {
        certificate: "/etc/rescind/server.pem".into(),
        private_key: "/etc/rescind/server.key".into(),
        clients: Some(clients),
    };
    let tls = Some(TlsConfig { files, ops: false });
    let principals = Some("/etc/rescind/principals.toml".into());
    let denied_file = Some("/var/log/rescind/denied.ndjson".into());
    let data_dir = "/var/lib/rescind".into();
    let expected = ServerConfig { data_dir, surface: examples, tls, principals, denied_file, ..default };
    assert_eq!(sample, expected);
}

#[test]
fn every_key_of_the_sample_is_documented() {
    let sample: toml::Table = include_str!("../../docs/rescind.toml").parse().unwrap();
    let docs = include_str!("../../docs/configuration.md");
    let mut keys = 0;
    for (section, value) in &sample {
        let names = match value {
            toml::Value::Table(table) => table.keys().map(|key| format!("`{section}.{key}`")).collect(),
            _ => vec![format!("`{section}`")],
        };
        for name in names {
            keys += 1;
            assert!(docs.contains(&name), "{name} is missing in docs/configuration.md");
        }
    }
    assert_eq!(keys, 50, "a key was added or removed: extend the sample");
}

#[test]
fn a_flag_beats_the_file() {
    let overrides = Overrides {
        listen: Some("127.0.0.1:1".parse().unwrap()),
        data_dir: Some("/flag".into()),
        ..Overrides::default()
    };
    let config =
        load("server = { listen = '127.0.0.1:2', ops_listen = '127.0.0.1:3', data_dir = '/file' }", &overrides);
    let config = config.unwrap();
    assert_eq!((config.listen.to_string().as_str(), config.ops_listen.port()), ("127.0.0.1:1", 3));
    assert_eq!(config.data_dir, Path::new("/flag"));
}

#[test]
fn the_data_directory_is_the_first_place_that_is_named() {
    let mut places = StatePlaces {
        state_directory: Some("/var/lib/rescind:/var/lib/other".into()),
        xdg_state_home: Some("/xdg".into()),
        home: Some("/home/me".into()),
    };
    let dir = |places: &StatePlaces| ServerConfig::load(&Overrides::default(), places).map(|config| config.data_dir);
    assert_eq!(dir(&places).unwrap(), Path::new("/var/lib/rescind"));
    places.state_directory = None;
    assert_eq!(dir(&places).unwrap(), Path::new("/xdg/rescind"));
    places.xdg_state_home = None;
    assert_eq!(dir(&places).unwrap(), Path::new("/home/me/.local/state/rescind"));
    places.home = None;
    assert!(matches!(dir(&places), Err(ConfigError::NoDataDir)));
}

const CERTIFIED: &str = "certificate = 'c'\nprivate_key = 'k'\n";

#[test]
fn beyond_loopback_takes_tls_and_authentication() {
    let listen = "[server]\nlisten = '0.0.0.0:7009'\n";
    let (tls, principals) = (format!("[tls]\n{CERTIFIED}"), "[authentication]\nprincipals = 'p'\n");
    check_refused(
        listen,
        &["no TLS and no authentication", "tls.certificate", "authentication.principals", "--insecure"],
    );
    check_refused(&format!("{listen}{tls}"), &["no authentication", "set authentication.principals"]);
    check_refused(&format!("{listen}{principals}"), &["no TLS", "set tls.certificate and tls.private_key"]);
    let config = load(&format!("{listen}{tls}{principals}"), &Overrides::default()).unwrap();
    assert!(!config.surface.insecure);
    assert_eq!(config.principals.as_deref(), Some(Path::new("p")));
}

#[test]
fn operators_beyond_loopback_take_tls_of_their_own() {
    let ops = "[server]\nops_listen = '0.0.0.0:7010'\n[tls]\n";
    check_refused(&format!("{ops}{CERTIFIED}"), &["ops_listen is 0.0.0.0:7010", "set tls.ops"]);
    assert!(load(&format!("{ops}{CERTIFIED}ops = true"), &Overrides::default()).is_ok());
}

#[test]
fn what_means_nothing_alone_names_what_is_missing() {
    for (line, key, needs) in [
        ("certificate = 'c'", "tls.certificate", "tls.private_key"),
        ("private_key = 'k'", "tls.private_key", "tls.certificate"),
        ("client_ca = 'a'", "tls.client_ca", "tls.certificate"),
        ("client_crl = 'r'", "tls.client_crl", "tls.client_ca"),
        ("require_client_certificate = true", "tls.require_client_certificate", "tls.client_ca"),
        ("ops = true", "tls.ops", "tls.certificate"),
    ] {
        check_refused(&format!("[tls]\n{line}"), &[&format!("{key} is set and {needs} is not")]);
    }
}

#[test]
fn beyond_loopback_needs_insecure() {
    for (key, toml) in [
        ("listen", "[server]\nlisten = '0.0.0.0:7009'"),
        ("ops_listen", "[server]\nops_listen = '192.0.2.1:7010'"),
        ("listen", "[server]\nlisten = '[::]:7009'"),
    ] {
        check_refused(toml, &[&format!("{key} is"), "--insecure", "127.0.0.1"]);
        assert!(load(toml, &Overrides { insecure: true, ..Overrides::default() }).unwrap().surface.insecure);
        assert!(load(&format!("{toml}\ninsecure = true"), &Overrides::default()).is_ok());
    }
    for local in ["[::1]:7009", "unix:/run/rescind.sock"] {
        let config = load(&format!("[server]\nlisten = '{local}'"), &Overrides::default()).unwrap();
        assert_eq!(config.listen.to_string(), local);
    }
}

#[test]
fn each_wrong_key_and_value_is_named_with_its_line() {
    for (toml, parts) in [
        ("\n[server]\nlissten = '127.0.0.1:1'", &["line 3", "lissten", "expected one of", "`listen`"][..]),
        ("[sever]", &["line 1", "sever", "`server`"]),
        ("[server]\nlisten = 7009", &["line 2", "listen = 7009", "string"]),
        ("[server]\nlisten = 'localhost'", &["line 2", "listen", "socket address"]),
        ("[server]\nlisten = 'unix:rescind.sock'", &["line 2", "listen", "absolute path"]),
        ("[server]\nops_listen = 'unix:/run/ops.sock'", &["line 2", "ops_listen", "socket address"]),
        ("[server]\nunknown_status = 99", &["line 2", "unknown_status", "200 to 599", "99 given"]),
        ("[server]\nhosts = ['http://a']", &["line 2", "hosts", "without scheme"]),
        ("[policy]\nmax_entries = 0", &["line 2", "max_entries", "from 1 to", "0 given"]),
        ("[policy]\nmax_entries = -1", &["line 2", "max_entries", "-1 given"]),
        ("[policy]\nmax_token_lifetime = 7", &["line 2", "max_token_lifetime = 7", "a duration such as"]),
        ("[policy]\nmax_token_lifetime = '7'", &["line 2", "max_token_lifetime", "90d"]),
        ("[policy]\nmax_token_lifetime = '401d'", &["line 2", "max_token_lifetime", "1m to", "401d given"]),
        ("[policy]\nwhen_stale = 'panic'", &["line 2", "when_stale", "serve_stale", "deny"]),
        ("[policy]\nlifetime_policy = 'x'", &["line 2", "lifetime_policy", "warn", "enforce"]),
        ("[journal]\naudit_retention = '90'", &["line 2", "audit_retention", "90d"]),
        (
            "[journal]\nsnapshot_bytes_min = 1024",
            &["line 2", "snapshot_bytes_min", "from 4096 to 33554432", "1024 given"],
        ),
        ("[limits]\nconnections = 0", &["line 2", "connections", "from 1"]),
        ("[tls]\nkey = 'k'", &["line 2", "key", "`private_key`"]),
        ("[tls]\ncertificate = ''", &["line 2", "certificate", "not empty"]),
        ("[tls]\nrequire_client_certificate = 'yes'", &["line 2", "require_client_certificate", "boolean"]),
        ("[oauth]\npublic_url = 'http://a.example'", &["line 2", "public_url", "https"]),
        ("[oauth]\nclass = 'a b'", &["line 2", "class", "1 to 64 ASCII letters"]),
        ("[oauth]\nurl = 'x'", &["line 2", "url", "`public_url`"]),
        ("[log]\nformat = 'xml'", &["line 2", "format", "text", "json"]),
        ("issuers = ['']", &["line 1", "issuers", "1 to 1024 bytes"]),
        ("issuers = 'https://a'", &["line 1", "issuers", "sequence"]),
        ("listen", &["line 1"]),
    ] {
        check_refused(toml, parts);
        check_refused(toml, &["rescind.toml"]);
    }
}

#[test]
fn one_port_for_both_listeners_is_refused() {
    check_refused("[server]\nlisten = '127.0.0.1:1'\nops_listen = '127.0.0.1:1'", &["both 127.0.0.1:1"]);
    assert!(load("[server]\nlisten = '127.0.0.1:0'\nops_listen = '127.0.0.1:0'", &Overrides::default()).is_ok());
}

#[test]
fn a_missing_and_an_enormous_file_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rescind.toml");
    let overrides = Overrides { config: Some(path.clone()), ..Overrides::default() };
    let load = || ServerConfig::load(&overrides, &places()).unwrap_err();
    assert!(load().to_string().contains("rescind.toml"));
    std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(matches!(load(), ConfigError::TooLarge { .. }));
}

#[test]
fn what_is_said_of_authentication_has_its_bounds() {
    let config = load("[authentication]\nrequests_per_second = 7", &Overrides::default()).unwrap();
    assert_eq!((config.requests_per_second, config.principals, config.denied_file), (7, None, None));
    for (line, parts) in [
        ("requests_per_second = 0", &["line 2", "from 1 to 1000000", "0 given"][..]),
        ("denied_file = ''", &["line 2", "not empty"]),
        ("principal = 'p'", &["unknown field `principal`", "`principals`"]),
    ] {
        check_refused(&format!("[authentication]\n{line}"), parts);
    }
}
