//! What people write: configuration, times, URLs, addresses.

use std::path::{Path, PathBuf};

use rescind::config::{
    AgentConfig, AgentOverrides, Overrides, ServerConfig, StatePlaces, parse_duration, parse_max_staleness,
    render_duration,
};
use rescind::fuzzing;
use rescind::replica::{PublicKey, SERVERS_MAX, SOCKET_PATH_BYTES_MAX, ServerUrl};
use rescind::revocation::{UnixMillis, VerificationPolicy};
use rescind::surface::http::{Rounding, parse_time, render_time};
use rescind::surface::{Address, parse_policy, render_policy};

use super::note_accepted;

pub fn config_server(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let places = StatePlaces { home: Some(PathBuf::from("/home")), ..StatePlaces::default() };
    let loaded = ServerConfig::from_toml(text, Path::new("fuzz.toml"), &Overrides::default(), &places);
    match loaded {
        Ok(config) => {
            note_accepted();
            let guarded = config.tls.is_some() && config.principals.is_some();
            assert!(
                config.surface.insecure || guarded || config.listen.is_local(),
                "nobody else can reach it by mistake"
            );
            let ops_in_clear = config.tls.as_ref().is_none_or(|tls| !tls.ops);
            assert!(config.surface.insecure || !ops_in_clear || config.ops_listen.ip().to_canonical().is_loopback());
            assert!(!config.data_dir.as_os_str().is_empty());
            assert!((1..=1_000_000_000).contains(&config.policy.max_entries));
            assert!((5..=30 * 86_400).contains(&config.policy.max_staleness.as_secs()));
            assert!(config.policy.max_token_lifetime.as_secs() <= 400 * 86_400);
            assert!((1..=1_000_000).contains(&config.surface.bounds.connections.total));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

pub fn config_agent(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(config) = AgentConfig::from_toml(text, Path::new("fuzz.toml"), &AgentOverrides::default()) else { return };
    note_accepted();
    assert!((1..=SERVERS_MAX).contains(&config.upstreams.len()));
    assert!(config.surface.insecure || config.listen.is_local());
    assert!((1..=1_000_000_000).contains(&config.max_entries));
    assert!(config.max_staleness.is_none_or(|limit| (5..=30 * 86_400).contains(&limit.as_secs())));
}

pub fn time(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = parse_duration(text) {
        note_accepted();
        assert_eq!(parse_duration(&render_duration(duration)), Ok(duration));
    }
    if let Ok(limit) = parse_max_staleness(text) {
        assert!((5..=30 * 86_400).contains(&limit.as_secs()));
    }
    let (down, up) = (parse_time(text, Rounding::Down), parse_time(text, Rounding::Up));
    assert_eq!(down.is_some(), up.is_some());
    if let (Some(down), Some(up)) = (down, up) {
        assert!(up - down <= 1, "a fraction is less than a second");
        assert_eq!(parse_time(&render_time(up), Rounding::Down), Some(up));
    }
    let named = fuzzing::argument_time(text, UnixMillis(1_700_000_000_000));
    assert!(up.is_none() || named.is_some(), "an argument can be a time as in JSON");
    assert!(named.is_none() || fuzzing::is_cutoff(text));
}

pub fn url(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(url) = text.parse::<ServerUrl>() {
        note_accepted();
        assert_eq!(url.to_string().parse(), Ok(url), "a URL is read as it is shown");
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
}

pub fn address(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = text.parse::<Address>() {
        note_accepted();
        assert!(address.tcp().is_some() || text.len() <= SOCKET_PATH_BYTES_MAX + "unix:".len());
        assert_eq!(address.to_string().parse(), Ok(address), "an address is read as it is shown");
    }
}

pub fn policy_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse_policy(text) {
        Ok(policy) => {
            note_accepted();
            assert_eq!(parse_policy(&render_policy(&policy)).as_ref(), Ok(&policy), "it is read as it is shown");
            assert_eq!(VerificationPolicy::decode(&policy.encode()), Ok(policy));
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "more than a line is told"),
    }
}
