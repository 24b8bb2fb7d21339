//! In virtual time, over a server that does as it is told.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::revocation::verification::{Algorithm, KeySource};
use crate::token::testing::{ISS, TestKey, issuer};

/// Answers by URL.
#[derive(Default)]
struct Server {
    answers: Mutex<BTreeMap<String, Result<Fetched, FetchError>>>,
    takes: Mutex<Duration>,
    asked: AtomicUsize,
}

const URL: &str = "https://issuer.example/keys";

impl Server {
    fn says(&self, url: &str, body: impl Into<Vec<u8>>, max_age: Option<u64>) {
        let fetched = Fetched { body: body.into(), max_age: max_age.map(Duration::from_secs) };
        self.answers.lock().insert(url.to_owned(), Ok(fetched));
    }

    fn fails(&self, url: &str, error: FetchError) {
        self.answers.lock().insert(url.to_owned(), Err(error));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Fetch for Server {
    fn get<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (answer, takes) = (self.answers.lock().get(url).cloned(), *self.takes.lock());
        Box::pin(async move {
            tokio::time::sleep(takes).await;
            answer.unwrap_or(Err(FetchError::Status(404)))
        })
    }
}

fn policy(keys: KeySource) -> VerificationPolicy {
    VerificationPolicy::new(vec![issuer(keys)], vec![]).unwrap()
}

fn ring(server: &Arc<Server>, place: KeySource) -> KeyRing {
    let ring = KeyRing::new(Arc::clone(server) as Arc<dyn Fetch>, Handle::current());
    ring.follow(&policy(place));
    ring
}

fn has(ring: &KeyRing, kid: &str) -> bool {
    ring.keys(ISS).is_some_and(|keys| keys.candidates(Algorithm::ES256, Some(kid)).count() == 1)
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn at_url() -> KeySource {
    KeySource::Url(URL.to_owned())
}

#[tokio::test(start_paused = true)]
async fn keys_are_fetched_again_when_their_time_is_over() {
    for (max_age, every) in [(None, 600), (Some(300), 300), (Some(0), 60), (Some(10_000_000), 86_400)] {
        let server = Arc::new(Server::default());
        server.says(URL, TestKey::new("a").set(), max_age);
        let ring = ring(&server, at_url());
        pass(1).await;
        assert!(has(&ring, "a"));
        server.says(URL, TestKey::new("b").set(), max_age);
        pass(every - 2).await;
        assert!(has(&ring, "a") && server.asked() == 1, "{max_age:?}");
        pass(2).await;
        assert!(has(&ring, "b") && !has(&ring, "a") && server.asked() == 2, "{max_age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_stay_while_the_issuer_is_down() {
    let server = Arc::new(Server::default());
    server.says(URL, TestKey::new("a").set(), None);
    let ring = ring(&server, at_url());
    pass(1).await;
    for trouble in
        [FetchError::Unreachable("refused".into()), FetchError::Status(500), FetchError::TooLarge { limit: 1 }]
    {
        server.fails(URL, trouble.clone());
        pass(3600).await;
        assert!(has(&ring, "a"), "{trouble}");
        let status = ring.status();
        assert_eq!(status[0].failure.as_deref(), Some(format!("{URL} {trouble}").as_str()));
        assert!(status[0].age > Some(Duration::from_secs(3000)));
    }
    server.says(URL, "<html>", None);
    pass(3600).await;
    assert!(has(&ring, "a"), "a set that cannot be read takes nothing away");
    server.says(URL, TestKey::new("b").set(), None);
    pass(301).await;
    assert!(has(&ring, "b"));
    assert_eq!(ring.status()[0].failure, None);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_asks_the_issuer_once_in_ten_seconds() {
    let server = Arc::new(Server::default());
    server.says(URL, TestKey::new("a").set(), None);
    let ring = ring(&server, at_url());
    pass(60).await;
    assert_eq!(server.asked(), 1);
    *server.takes.lock() = Duration::from_millis(200);
    for _ in 0..100 {
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let ring = ring.clone();
            flood.spawn(async move { ring.newer(ISS, FETCH_WITHIN).await });
        }
        let answers = flood.join_all().await;
        assert!(answers.iter().all(|newer| *newer == answers[0]), "all wait for one, or none does");
        pass(1).await;
    }
    let seconds = 100 + 100 / 5;
    assert!(server.asked() <= 2 + seconds / 10, "{} times", server.asked());
    assert!(server.asked() >= 8, "{} times", server.asked());
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_for_a_new_key_waits_for_it() {
    let server = Arc::new(Server::default());
    server.says(URL, TestKey::new("a").set(), None);
    let ring = ring(&server, at_url());
    assert!(ring.newer(ISS, FETCH_WITHIN).await, "the first fetch is waited for");
    assert!(has(&ring, "a"));
    server.says(URL, TestKey::new("b").set(), None);
    assert!(!ring.newer(ISS, FETCH_WITHIN).await, "too soon");
    pass(10).await;
    assert!(ring.newer(ISS, FETCH_WITHIN).await && has(&ring, "b"));
    assert!(!ring.newer("https://unknown.example", FETCH_WITHIN).await);
    *server.takes.lock() = Duration::from_secs(60);
    pass(10).await;
    assert!(!ring.newer(ISS, Duration::from_secs(1)).await, "a slow issuer holds nobody up for longer");
    pass(10).await;
    assert_eq!(ring.status()[0].failure.as_deref(), Some("https://issuer.example/keys does not answer within 5 s"));
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_less_and_less_often() {
    let server = Arc::new(Server::default());
    let ring = ring(&server, at_url());
    let mut asked = Vec::new();
    for seconds in [1, 5, 10, 20, 40, 80, 160, 300, 300] {
        pass(seconds).await;
        asked.push(server.asked());
    }
    assert_eq!(asked, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(ring.keys(ISS).is_none());
}

#[tokio::test(start_paused = true)]
async fn discovery_leads_to_the_keys() {
    let document = |issuer: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"{URL}"}}"#);
    let oidc = "https://issuer.example/.well-known/openid-configuration";
    let oauth = "https://issuer.example/.well-known/oauth-authorization-server";
    for place in [oidc, oauth] {
        let server = Arc::new(Server::default());
        server.says(place, document(ISS), None);
        server.says(URL, TestKey::new("a").set(), None);
        let ring = ring(&server, KeySource::Discovery);
        pass(1).await;
        assert!(has(&ring, "a"), "{place}");
    }
    let server = Arc::new(Server::default());
    server.says(oidc, document("https://evil.example"), None);
    let ring = ring(&server, KeySource::Discovery);
    pass(1).await;
    assert_eq!(ring.status()[0].failure.as_deref(), Some("the discovery document is of another issuer"));
}

#[tokio::test(start_paused = true)]
async fn discovery_has_no_more_time_than_one_fetch() {
    let server = Arc::new(Server::default());
    let oauth = "https://issuer.example/.well-known/oauth-authorization-server";
    server.says(oauth, format!(r#"{{"issuer":"{ISS}","jwks_uri":"{URL}"}}"#), None);
    server.says(URL, TestKey::new("a").set(), None);
    *server.takes.lock() = Duration::from_secs(2);
    let ring = ring(&server, KeySource::Discovery);
    pass(6).await;
    assert_eq!(ring.status()[0].failure.as_deref(), Some("https://issuer.example/keys does not answer within 5 s"));
    *server.takes.lock() = Duration::from_secs(1);
    pass(8).await;
    assert!(has(&ring, "a"));
}

#[tokio::test]
async fn a_pipe_instead_of_a_file_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let ring = ring(&Arc::default(), KeySource::File(path.to_str().unwrap().to_owned()));
    ring.newer(ISS, FETCH_WITHIN).await;
    let failure = ring.status()[0].failure.clone();
    // A reader that waits for the other end would keep this program from ending.
    let _ = std::fs::OpenOptions::new().read(true).write(true).open(&path);
    assert!(failure.is_some_and(|failure| failure.ends_with("is no regular file")));
}

#[tokio::test]
async fn keys_in_a_file_or_in_the_policy_need_no_network() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    std::fs::write(&path, TestKey::new("a").set()).unwrap();
    let server = Arc::new(Server::default());
    let of_file = ring(&server, KeySource::File(path.to_str().unwrap().to_owned()));
    let inline = ring(&server, KeySource::Inline(TestKey::new("b").set()));
    let missing = ring(&server, KeySource::File("/nowhere/keys.json".into()));
    for ring in [&of_file, &inline, &missing] {
        // Whether or not the first look is over by now.
        ring.newer(ISS, FETCH_WITHIN).await;
    }
    assert!(has(&of_file, "a") && has(&inline, "b"));
    let failure = missing.status()[0].failure.clone().unwrap();
    assert!(failure.starts_with("/nowhere/keys.json: No such file"), "{failure}");
    assert_eq!(server.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_changes_keeps_the_keys_of_whoever_stays() {
    let server = Arc::new(Server::default());
    server.says(URL, TestKey::new("a").set(), None);
    let ring = ring(&server, at_url());
    pass(1).await;
    let mut stricter = issuer(at_url());
    stricter.leeway_seconds = 0;
    ring.follow(&VerificationPolicy::new(vec![stricter], vec![]).unwrap());
    assert!(has(&ring, "a") && server.asked() == 1);
    ring.follow(&policy(KeySource::Url("https://issuer.example/other".into())));
    assert!(!has(&ring, "a"), "keys from another place are other keys");
    ring.follow(&VerificationPolicy::new(vec![], vec![]).unwrap());
    assert_eq!(ring.status(), []);
    let asked = server.asked();
    pass(3600).await;
    assert!(server.asked() <= asked + 1, "nobody asks for an issuer that is gone");
}
