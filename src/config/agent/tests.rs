//! Precedence and refusals of an agent's configuration.

use super::*;
use crate::security::tls::{ClientFiles, ClientIdentity};

const MINIMAL: &str = "[agent]\nupstreams = ['http://10.0.0.1:7009']\n";

fn load(toml: &str, overrides: &AgentOverrides) -> Result<AgentConfig, ConfigError> {
    AgentConfig::from_toml(toml, Path::new("rescind.toml"), overrides)
}

fn urls(config: &AgentConfig) -> Vec<String> {
    config.upstreams.iter().map(ToString::to_string).collect()
}

/// Asserts that `toml` is refused with a message that holds all of `parts`.
fn check_refused(toml: &str, parts: &[&str]) {
    let message = load(toml, &AgentOverrides::default()).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{toml}\n{part:?} is missing in: {message}");
    }
}

#[test]
fn upstreams_alone_are_enough() {
    let upstreams = vec!["unix:/run/rescind.sock".parse().unwrap()];
    let config = AgentConfig::load(&AgentOverrides { upstreams, ..AgentOverrides::default() }).unwrap();
    assert_eq!(urls(&config), ["unix:/run/rescind.sock"]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:7019");
    assert_eq!(config.ops_listen.to_string(), "127.0.0.1:7020");
    assert_eq!((config.cache_dir.as_ref(), config.public_key, config.local_policy()), (None, None, None));
    assert!(!config.override_policy && !config.surface.insecure);
    assert_eq!(config.max_entries, ENTRIES_MAX);
    assert!((1..=NAME_BYTES_MAX).contains(&config.name.as_str().len()));
}

#[test]
fn a_server_is_named_once() {
    for url in ["http://a:1", "unix:/run/a"] {
        check_refused(&format!("agent.upstreams = ['{url}', 'http://b:1', '{url}']"), &["named twice", url]);
    }
    check_refused("agent.upstreams = ['http://a:1', 'http://A:1/']", &["named twice"]);
}

#[test]
fn the_sample_holds_every_key() {
    let sample = load(include_str!("../../../docs/rescind.toml"), &AgentOverrides::default()).unwrap();
    let default = load(MINIMAL, &AgentOverrides::default()).unwrap();
    assert_eq!(urls(&sample), ["https://10.0.0.1:7009", "https://10.0.0.2:7009"]);
    assert_eq!((&sample.listen, sample.ops_listen), (&default.listen, default.ops_listen));
    assert_eq!(sample.max_entries, default.max_entries);
    assert_eq!(sample.cache_dir.as_deref(), Some(Path::new("/var/cache/rescind")));
    assert_eq!(sample.name.as_str(), "gateway-1");
    assert!(sample.public_key.is_some() && sample.max_staleness.is_some() && sample.when_stale.is_some());
    assert_eq!(sample.lifetime_policy, Some(LifetimePolicy::Enforce));
    let identity =
        ClientIdentity { certificate: "/etc/rescind/agent.pem".into(), private_key: "/etc/rescind/agent.key".into() };
    let files = ClientFiles { authorities: Some("/etc/rescind/ca.pem".into()), identity: Some(identity) };
    assert_eq!(sample.upstream, UpstreamConfig { files, credential_file: Some("/etc/rescind/credential".into()) });
    assert!(sample.tls.is_some() && sample.principals.is_some(), "listeners are shared with a server");
    assert_eq!(sample.surface.hosts, ["rescind.internal"], "what callers are answered with is shared with a server");
}

#[test]
fn a_flag_beats_the_file() {
    let toml = "[agent]\nupstreams = ['http://a:1', 'http://b:1']\nlisten = '127.0.0.1:1'\nops_listen = '127.0.0.1:2'\n\
                cache_dir = '/file'\nname = 'file'\nmax_staleness = '1m'\nwhen_stale = 'serve_stale'\nmax_entries = 5";
    let config = load(toml, &AgentOverrides::default()).unwrap();
    assert_eq!(urls(&config), ["http://a:1", "http://b:1"]);
    assert_eq!((config.listen.to_string().as_str(), config.ops_listen.port()), ("127.0.0.1:1", 2));
    assert_eq!((config.name.as_str(), config.max_entries), ("file", 5));
    let overrides = AgentOverrides {
        upstreams: vec!["http://c:1".parse().unwrap()],
        listen: "unix:/run/agent.sock".parse().ok(),
        ops_listen: "127.0.0.1:3".parse().ok(),
        cache_dir: Some("/flag".into()),
        name: "flag".parse().ok(),
        public_key: "0f".repeat(32).parse().ok(),
        max_staleness: Some(Duration::from_secs(30)),
        when_stale: Some(WhenStale::Deny),
        override_policy: true,
        ..AgentOverrides::default()
    };
    let config = load(toml, &overrides).unwrap();
    assert_eq!(urls(&config), ["http://c:1"], "lists are not joined");
    assert_eq!((config.listen.to_string().as_str(), config.ops_listen.port()), ("unix:/run/agent.sock", 3));
    assert_eq!((config.cache_dir.as_deref(), config.name.as_str()), (Some(Path::new("/flag")), "flag"));
    assert_eq!(config.public_key, Some(PublicKey([15; 32])));
    let policy = PolicyInForce { max_staleness: Duration::from_secs(30), when_stale: WhenStale::Deny };
    assert_eq!((config.local_policy(), config.override_policy), (Some(policy), true));
}

#[test]
fn half_a_local_policy_leaves_the_other_half_to_the_authority() {
    let config = load(&format!("{MINIMAL}max_staleness = '10s'"), &AgentOverrides::default()).unwrap();
    let logged = PolicyInForce { max_staleness: Duration::from_secs(60), when_stale: WhenStale::Deny };
    let expected = PolicyInForce { max_staleness: Duration::from_secs(10), when_stale: WhenStale::Deny };
    assert_eq!(config.local_policy().unwrap().stricter(logged), expected);
}

#[test]
fn an_agent_has_1_to_16_upstreams() {
    check_refused("", &["1 to 16 servers, 0 given", "--upstream", "agent.upstreams"]);
    check_refused("[agent]\nupstreams = []", &["0 given"]);
    let list = |count: usize| {
        let urls: String = (1..=count).map(|port| format!("'http://a:{port}',")).collect();
        format!("[agent]\nupstreams = [{urls}]")
    };
    check_refused(&list(17), &["17 given"]);
    assert_eq!(load(&list(16), &AgentOverrides::default()).unwrap().upstreams.len(), 16);
}

#[test]
fn beyond_loopback_needs_the_flag_whatever_the_file_says_of_a_server() {
    let exposed = format!("server = {{ insecure = true }}\n{MINIMAL}listen = '0.0.0.0:7019'");
    check_refused(&exposed, &["listen is 0.0.0.0:7019", "--insecure"]);
    let insecure = AgentOverrides { insecure: true, ..AgentOverrides::default() };
    assert!(load(&exposed, &insecure).unwrap().surface.insecure);
    check_refused(&format!("{MINIMAL}ops_listen = '192.0.2.1:1'"), &["ops_listen is"]);
    check_refused(&format!("{MINIMAL}listen = '127.0.0.1:7020'"), &["both 127.0.0.1:7020"]);
    assert!(load(&format!("{MINIMAL}listen = 'unix:/run/agent.sock'"), &AgentOverrides::default()).is_ok());
}

#[test]
fn each_wrong_key_and_value_is_named_with_its_line() {
    for (line, parts) in [
        ("upstream = 'http://a:1'", &["unknown field `upstream`", "`upstreams`"][..]),
        ("listen = '7019'", &["listen", "IP:PORT or unix:/absolute/path"]),
        ("ops_listen = 'unix:/a'", &["ops_listen", "socket address"]),
        ("cache_dir = ''", &["cache_dir", "not empty"]),
        ("name = ''", &["name", "1 to 128 bytes", "0 bytes given"]),
        ("name = \"a\\nb\"", &["name", "control characters"]),
        ("public_key = 'abc'", &["public_key", "64 hexadecimal digits"]),
        ("max_staleness = '1s'", &["max_staleness", "5s to", "1s given"]),
        ("when_stale = 'panic'", &["when_stale", "serve_stale", "deny"]),
        ("max_entries = 0", &["max_entries", "from 1 to", "0 given"]),
        ("override_policy = true", &["unknown field `override_policy`"]),
        ("insecure = true", &["unknown field `insecure`"]),
    ] {
        check_refused(&format!("{MINIMAL}{line}"), &[&["rescind.toml", "line 3"], parts].concat());
    }
    check_refused("[agent]\nupstreams = ['ftp://a:1']", &["line 2", "upstreams", "http://127.0.0.1:7009"]);
    check_refused("[agent]\nupstreams = ['unix:a']", &["line 2", "absolute path"]);
}

#[test]
fn a_local_staleness_has_the_range_of_the_logged_one() {
    assert_eq!(parse_max_staleness("5s"), Ok(Duration::from_secs(5)));
    assert!(parse_max_staleness("4s").unwrap_err().to_string().contains("4s given"));
    assert!(parse_max_staleness("31d").unwrap_err().to_string().contains("31d given"));
    assert!(parse_max_staleness("5").is_err());
}

#[test]
fn what_is_shown_upstream_is_whole_and_a_flag_beats_the_file() {
    for (line, parts) in [
        ("certificate = 'c'", ["upstream.certificate is set", "--upstream-key-file"]),
        ("private_key = 'k'", ["upstream.private_key is set", "--upstream-certificate-file"]),
    ] {
        check_refused(&format!("{MINIMAL}[upstream]\n{line}"), &parts);
    }
    let upstream = UpstreamOverrides { certificate: Some("flag".into()), ..UpstreamOverrides::default() };
    let overrides = AgentOverrides { upstream, ..AgentOverrides::default() };
    let config = load(&format!("{MINIMAL}[upstream]\ncertificate = 'c'\nprivate_key = 'k'"), &overrides).unwrap();
    let expected = ClientIdentity { certificate: "flag".into(), private_key: "k".into() };
    assert_eq!(config.upstream.files, ClientFiles { authorities: None, identity: Some(expected) });
}

#[test]
fn a_credential_is_not_sent_in_clear() {
    let with = |url: &str| format!("[agent]\nupstreams = ['unix:/a', '{url}']\n[upstream]\ncredential_file = 'c'");
    check_refused(&with("http://10.0.0.1:7009"), &["credential", "to http://10.0.0.1:7009 in clear", "https://"]);
    for url in ["https://10.0.0.1:7009", "http://127.0.0.1:7009"] {
        assert!(load(&with(url), &AgentOverrides::default()).is_ok(), "{url}");
    }
}

#[test]
fn an_agent_beyond_loopback_takes_tls_and_authentication_as_a_server_does() {
    let exposed = format!("{MINIMAL}listen = '0.0.0.0:7019'\n[tls]\ncertificate = 'c'\nprivate_key = 'k'\n");
    check_refused(&exposed, &["no authentication"]);
    assert!(load(&format!("{exposed}[authentication]\nprincipals = 'p'"), &AgentOverrides::default()).is_ok());
}
