//! The seeds of the corpus: real messages, files and texts, made by the code that writes them.

use std::path::Path;
use std::time::Duration;

use prost::Message as _;
use rescind::clock::{Clock, ManualTime};
use rescind::fuzzing;
use rescind::journal::{
    Action, Body, CredentialAction, CredentialChange, ExpiryBasis, Extension, Record, Reinstatement, Request,
    Revocation as Accepted,
};
use rescind::replica::{self, FollowerOptions, Following};
use rescind::replication::Moment;
use rescind::replication::frames::{
    About, Ack, GoAway, GoAwayReason, Held, NodeId, PolicyInForce, Role, Roster, RosterEntry, Subtree, ToServer,
    ToSubscriber, WelcomeMode,
};
use rescind::replication::subscription::Mode;
use rescind::revocation::grant::Role as GrantedRole;
use rescind::revocation::ports::{Credential, CredentialHash, CredentialId};
use rescind::revocation::{
    Chain, Cutoff, Delta, Digest, Entry, Exception, Fingerprint, Grant, LifetimePolicy, Mark, Minute, PackedEntry,
    Policy, Position, Revision, RevocationId, Selector, Shape, TestedClaim, UnixMillis, UnixSeconds, VersionedPolicy,
    WhenStale,
};
use rescind::surface::parse_policy;
use rescind::wire::pb;

use super::access::{HASHED, SECRET};
use super::authority::{Authority, EPOCH, T0, set_key};
use super::files::{cached_authority, joined};
use super::frames::{encode_for_server, encode_for_subscriber};
use super::journal::SEED;
use super::subscription::sound_hello;

/// A JWT without a signature.
const TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJhIiwic3ViIjo0MiwiaWF0IjoxNzAwMDAwMDAwfQ.";
const PAYLOAD: &str = r#"{"iss":"https://issuer.example","sub":"alice","iat":1700000000.5,"exp":1e10,"aud":["a","b"],"cnf":{"jkt":"x"},"admin":true,"e\u0301":null}"#;

/// Makes every seed: the target's name, its own name, the bytes. `scratch` is an empty folder.
pub fn all(scratch: &Path) -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    let mut add = |target: &'static str, name: &str, bytes: Vec<u8>| seeds.push((target, name.to_owned(), bytes));
    frames(&mut add);
    machines(&mut add);
    core(&mut add);
    journal(&mut add);
    files(scratch, &mut add);
    presented(&mut add);
    requests(&mut add);
    text(&mut add);
    seeds
}

type Add<'a> = &'a mut dyn FnMut(&'static str, &str, Vec<u8>);

fn frames(add: Add<'_>) {
    for (name, frame) in from_subscriber() {
        add("subscriber_frame", name, encode_for_server(&frame));
    }
    let authority = cached_authority();
    let [begin, chunk, end] = <[_; 3]>::try_from(authority.snapshot(Revision(3))).expect("three frames");
    let away = GoAway {
        reason: GoAwayReason::Overloaded,
        reconnect_window: Duration::from_secs(10),
        detail: "too many".to_owned(),
    };
    for (name, frame) in [
        ("welcome", authority.welcome(WelcomeMode::Snapshot)),
        ("begin", begin),
        ("chunk", chunk),
        ("end", end),
        ("delta", authority.delta(Revision(2), true)),
        ("unsigned", authority.delta(Revision(4), false)),
        ("heartbeat", authority.heartbeat(Revision(4))),
        ("go_away", ToSubscriber::GoAway(away)),
    ] {
        add("sender_frame", name, encode_for_subscriber(&frame));
    }
}

fn from_subscriber() -> [(&'static str, ToServer); 4] {
    let policy = PolicyInForce { max_staleness: Duration::from_secs(300), when_stale: WhenStale::Deny };
    let held = Held { epoch: EPOCH, revision: Revision(2), digest: Digest::from_bytes([5; 16]) };
    let ack = Ack {
        applied: Revision(2),
        digest: Digest::from_bytes([6; 16]),
        ready: true,
        policy: Some(policy),
        subtree: Some(Subtree {
            subscribers: 5,
            ready: 4,
            applied_min: Revision(8),
            laggards: vec![NodeId([21; 16])],
            loosest_policy: Some(policy),
            changes: 2,
        }),
        source_time: UnixMillis(T0),
    };
    [
        ("hello", ToServer::Hello(Box::new(sound_hello(Some(held), Role::Relay)))),
        ("first_hello", ToServer::Hello(Box::new(sound_hello(None, Role::Leaf)))),
        ("ack", ToServer::Ack(ack)),
        ("roster", ToServer::Roster(roster())),
    ]
}

fn roster() -> Roster {
    let entry = |id: u8, connected| RosterEntry {
        id: NodeId([id; 16]),
        parent: NodeId([1; 16]),
        change: 1,
        joined: 1,
        connected,
        about: About {
            name: "leaf".to_owned(),
            role: Role::Leaf,
            version: "0.1.0".to_owned(),
            address: "10.0.0.1:1".to_owned(),
            since: UnixMillis(T0),
            reconnect_reason: String::new(),
            policy: PolicyInForce { max_staleness: Duration::from_secs(300), when_stale: WhenStale::ServeStale },
            acked: Revision(1),
            ready: true,
            mode: Some(Mode::Live),
            source_time: UnixMillis(T0),
        },
    };
    Roster {
        memory: 7,
        begins: true,
        complete: Some(2),
        epoch: Some(EPOCH.id),
        entries: vec![entry(4, true), entry(5, false)],
        gone: vec![NodeId([6; 16])],
        unlisted: 0,
    }
}

/// Lists of steps; the numbers are those that the targets read.
fn machines(add: Add<'_>) {
    // Two revocations, a snapshot of the first, the second as a delta, a word, and then one is taken back.
    add("follower", "joins", vec![0, 0, 1, 0, 2, 2, 4, 0, 5, 1, 6, 2, 0, 7, 2, 1, 1, 6, 3, 0, 7, 3]);
    // Diverges on an unsigned delta, hears the union, and gets a new snapshot.
    add("follower", "kept", vec![1, 0, 1, 2, 4, 0, 5, 1, 9, 1, 2, 1, 1, 60, 0, 9, 3, 2, 4, 0, 5, 1, 8, 40, 12, 0]);
    add("follower", "spoiled", vec![1, 0, 1, 0, 3, 2, 4, 0, 9, 2, 3, 1, 40, 0, 255, 5, 2, 9, 1, 0, 2, 9, 0, 1, 8, 255]);
    let delta = encode_for_subscriber(&cached_authority().delta(Revision(1), false));
    let raw = [&[0, 0, 0, 2, 4, 0, 5, 0, 10, delta.len() as u8, 0][..], &delta[..]].concat();
    add("follower", "raw", raw);
    add("subscription", "joins", vec![3, 1, 6, 2, 0, 0, 0, 0, 0, 4, 1, 5, 1, 3, 0, 7, 9]);
    add("subscription", "resumes", vec![11, 1, 0, 4, 0, 1, 0, 4, 2, 5, 1, 5, 0, 3, 0, 1, 1]);
    add("subscription", "spoiled", vec![5, 2, 3, 2, 0, 1, 0, 1, 9, 0, 1, 6, 1, 7, 200]);
    let step = |seat: u8, frame: &ToServer| {
        let bytes = encode_for_server(frame);
        [&[seat, 1, bytes.len() as u8, (bytes.len() >> 8) as u8][..], &bytes[..]].concat()
    };
    let [_, _, (_, ack), (_, told)] = from_subscriber();
    let relay = [1, 0, 1, 0, 2, 1, 60].to_vec();
    let steps =
        [vec![0], relay.clone(), step(1, &told), step(1, &ack), vec![2, 0, 0, 3, 1, 30, 1, 3, 0, 0, 4, 255, 0, 5]];
    add("fleet", "relay", steps.concat());
    let endless = ToServer::Roster(Roster { unlisted: u64::MAX, ..roster() });
    add("fleet", "endless", [vec![0], relay, step(1, &endless)].concat());
    add(
        "fleet",
        "leaves",
        vec![1, 0, 0, 0, 0, 2, 0, 9, 1, 0, 0, 1, 0, 1, 9, 0, 3, 1, 0, 4, 200, 0, 5, 0, 6, 1, 0, 8, 3, 1, 60],
    );
}

/// A verification policy with everything that one can say.
const POLICY_TEXT: &str = "\
[[issuer]]
iss = \"https://a.example\"
audiences = [\"api\", \"web\"]
algorithms = [\"ES256\", \"EdDSA\"]
types = [\"at+jwt\", \"absent\"]
leeway_seconds = 30
keys_url = \"https://a.example/keys\"
[[class]]
name = \"orders\"
issuers = [\"https://a.example\"]
audiences = [\"orders\"]
scopes = [\"orders.read\"]
claims = [{ name = \"tenant_id\", values = [\"x\"] }, { name = \"sub\" }]
";

fn core(add: Add<'_>) {
    let authority = cached_authority();
    for revision in [1, 4] {
        add("delta", &format!("revision_{revision}"), authority.at(Revision(revision)).canonical.to_vec());
    }
    add("delta", "full", full_delta().encode());
    let policy = Policy { losses_accepted: 3, lifetime_policy: LifetimePolicy::Enforce, ..Policy::default() };
    let versioned = VersionedPolicy { version: 1, policy: parse_policy(POLICY_TEXT).expect("it is sound") };
    add("verification", "full", versioned.encode());
    let applying = Delta {
        verification: Some(versioned.into()),
        ..Delta::empty(Revision(1), UnixMillis(T0), Minute::from_bits(2))
    };
    add("delta", "verification", applying.encode());
    add("policy", "default", Policy::default().encode());
    add("policy", "losses", policy.encode());
    let [ToSubscriber::SnapshotBegin(begin), ToSubscriber::SnapshotChunk(chunk), _] =
        <[_; 3]>::try_from(authority.snapshot(Revision(3))).expect("three frames")
    else {
        unreachable!("a snapshot begins with its header")
    };
    let block = |bytes: &[u8]| [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
    add("snapshot", "three", [block(&begin.header), block(&chunk.bytes)].concat());
    let mut shape = Vec::new();
    Shape::new(["sub", "client_id"], TestedClaim::AuthTime).expect("a shape").encode(&mut shape);
    add("shape", "two", shape);
    add("selector", "two", [&[0, 3][..], b"sub", &[5, 0], b"alice", &[9], b"client_id", &[3, 0], b"web"].concat());
    for (name, text) in [("integer", "-42"), ("exponent", "9.007199254740991e15"), ("zero", "-0.0e99")] {
        add("scalar", name, text.into());
    }
    let position = Position { epoch: [0xab; 16], revision: Revision(u64::MAX) };
    add("position", "position", position.to_string().into());
    add("position", "id", revocation_id().to_string().into());
}

fn full_delta() -> Delta {
    let spared = Shape::new(["sid"], TestedClaim::Iat).expect("a shape");
    let exceptions = vec![Exception { shape: spared, fingerprint: Fingerprint([8, 9]), reach: None }];
    let entry = |flag| PackedEntry::new(Cutoff::at(UnixSeconds(10)).expect("a cutoff"), Minute::NEVER, flag);
    Delta {
        shapes_added: vec![Shape::new(["sub"], TestedClaim::Iat).expect("a shape")],
        shapes_retired: vec![Shape::new(["jti"], TestedClaim::Iat).expect("a shape")],
        upserts: vec![(Fingerprint([1, 1]), entry(false)), (Fingerprint([1, 2]), entry(true))],
        extended: vec![exceptions],
        removals: vec![Fingerprint([1, 3])],
        policy: Some(Policy::default()),
        ..Delta::empty(Revision(1), UnixMillis(T0), Minute::from_bits(1))
    }
}

fn credentials(action: CredentialAction) -> Body {
    let (principal, peer) = ("root".to_owned(), "192.0.2.1".to_owned());
    Body::Credentials(CredentialChange { principal, peer, received_at: UnixMillis(T0), action })
}

fn credential() -> Credential {
    Credential {
        id: CredentialId([1; 8]),
        name: "gateway".to_owned(),
        grant: Grant {
            roles: [GrantedRole::Check, GrantedRole::Revoke].into_iter().collect(),
            issuers: Some(vec!["idp".to_owned()]),
            claims: None,
            writes_per_minute: Some(60),
        },
        hash: CredentialHash { salt: [3; 16], digest: [4; 32] },
        expires_at: Some(UnixSeconds(2_000_000_000)),
        created_at: UnixMillis(T0),
        created_by: "root".to_owned(),
    }
}

fn revocation_id() -> RevocationId {
    RevocationId { epoch_prefix: 0xabcd_ef01, revision: Revision(3), index: 1 }
}

fn journal(add: Add<'_>) {
    let delta = Delta::empty(Revision(3), UnixMillis(T0), Minute::from_bits(1)).encode();
    let selector = |subject: &str| Selector::new([("sub", subject)], TestedClaim::Iat).expect("a selector");
    let accepted = Accepted {
        selector: selector("alice"),
        mark: Mark {
            cutoff: Cutoff::UNBOUNDED,
            expiry: Minute::NEVER,
            spares: vec![(selector("x").shape(), Fingerprint([1, 2]))],
        },
        exceptions: vec![selector("x")],
        expiry_basis: ExpiryBasis::Never,
        reason: "left".to_owned(),
        already_expired: false,
        merged: true,
    };
    let reinstatement = Reinstatement {
        selector: selector("bob"),
        only: Some(revocation_id()),
        undone: vec![revocation_id()],
        reason: String::new(),
    };
    let request = |action| Request {
        principal: "admin".to_owned(),
        peer: "127.0.0.1:1".to_owned(),
        request_id: Some("r1".to_owned()),
        body_hash: [7; 32],
        received_at: UnixMillis(T0),
        action,
    };
    let requests = vec![request(Action::Revoke(vec![accepted])), request(Action::Reinstate(vec![reinstatement]))];
    let extension =
        Extension { id: revocation_id(), selector: selector("bob"), expiry: Minute::at(500).expect("a minute") };
    for (name, body) in [
        ("start", Body::Start { build: "0.1.0".to_owned(), wall_time: UnixMillis(T0) }),
        ("tick", Body::Tick),
        ("policy", Body::Policy { policy: Policy::default(), actor: "root".to_owned(), peer: String::new() }),
        ("requests", Body::Requests(requests)),
        ("extend", Body::Extend(vec![extension])),
        ("loss", Body::Policy { policy: Policy::default(), actor: "root".to_owned(), peer: "192.0.2.1".to_owned() }),
        ("credential", credentials(CredentialAction::Create(Box::new(credential())))),
        (
            "credentials_revoked",
            credentials(CredentialAction::Revoke(vec![CredentialId([1; 8]), CredentialId([2; 8])])),
        ),
    ] {
        let record = Record { revision: Revision(3), chain_after: Chain::default(), body, delta: delta.clone() };
        add("record", name, record.encode().expect("a sound record"));
    }
    // As `carried` states it: id, expiry, who and when, then the revocation, which ends with its basis and reason.
    let carried = [
        &[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0, 1, 0][..],
        b"a",
        &[1, 0],
        b"p",
        &[9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3],
        b"sub",
        &[5, 0],
        b"alice",
        &PackedEntry::new(Cutoff::UNBOUNDED, Minute::NEVER, false).bits().to_le_bytes(),
        &[4, 0, 0],
    ];
    add("carried", "one", carried.concat());
    add("identity", "first", fuzzing::sample_identity(SEED));
    let text = |text: &str| [&[2, text.len() as u8][..], text.as_bytes()].concat();
    let whole =
        [vec![5, 8], text("leaf"), vec![6, 60, 6, 5, 9, 5, 10], vec![1, 0, 0, 0, 0, 0, 0, 0, 255, 7], text("payments")];
    add("member", "below", whole.concat());
    add("member", "here", [vec![5, 8], text("leaf"), vec![7, 60, 7, 0, 0, 0, 0, 0]].concat());
    add("page_token", "one", fuzzing::sample_page_token(SEED, 1 << 40).into());
}

fn files(scratch: &Path, add: Add<'_>) {
    let path = scratch.join("1.snapshot");
    let selector = |subject: u8| Selector::new([("sub", subject.to_string())], TestedClaim::Iat).expect("a selector");
    let mut entries: Vec<_> = (0..4)
        .map(|subject| {
            let mark = Mark { cutoff: Cutoff::UNBOUNDED, expiry: Minute::NEVER, spares: Vec::new() };
            (set_key().fingerprint(&selector(subject)), Entry::merge(None, &mark))
        })
        .collect();
    entries.sort_by_key(|(fingerprint, _)| *fingerprint);
    fuzzing::write_authority_snapshot(&path, &set_key(), &selector(0).shape(), &entries).expect("it can be written");
    add("authority_snapshot", "four", std::fs::read(&path).expect("it was written"));
    let (snapshot, deltas) = cache(&scratch.join("cache"));
    add("replica_cache", "snapshot", joined(&snapshot, &[]));
    add("replica_cache", "deltas", joined(&snapshot, &deltas));
    let manifest = format!(
        "rescind backup 1\nposition {}\n{} 4096 journal.sqlite\n{} 77 snapshots/00000000000000000007.snapshot\n",
        Position { epoch: EPOCH.id, revision: Revision(9) },
        "ab".repeat(32),
        "cd".repeat(32),
    );
    add("manifest", "two", manifest.into());
}

/// The files of a cache that a replica of [`cached_authority`] keeps.
fn cache(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let clock = Clock::manual(ManualTime::starting_at(UnixMillis(T0)));
    let keeper = replica::cache::open(dir, 1000, clock.clone()).expect("the folder can be used").into_keeper();
    let mut options = FollowerOptions::leaf(NodeId([1; 16]), "seed", 1);
    options.keeps = true;
    let mut following = Following::new(options, clock);
    following.add_keeper(Box::new(keeper));
    let mut authority = Authority::new();
    (0..3).for_each(|subject| authority.commit(subject, false));
    let now = Moment { boot: Duration::from_millis(T0), wall: UnixMillis(T0) };
    following.follower.handle_connected(now);
    following.follower.handle_frame(now, authority.welcome(WelcomeMode::Snapshot));
    authority.snapshot(authority.head()).into_iter().for_each(|frame| following.follower.handle_frame(now, frame));
    authority.commit(1, true);
    following.follower.handle_frame(now, authority.delta(authority.head(), true));
    while following.poll().is_some() {}
    drop(following.take_keepers());
    let files = std::fs::read_dir(dir).expect("the folder can be read").flatten();
    let deltas = files.map(|file| file.path()).find(|path| path.to_string_lossy().contains("deltas-"));
    let read = |path: &Path| std::fs::read(path).expect("the keeper wrote it");
    (read(&dir.join("snapshot")), read(&deltas.expect("a file of deltas")))
}

fn presented(add: Add<'_>) {
    add("token", "jwt", TOKEN.into());
    add("token", "opaque", b"opaque-token".to_vec());
    add("claims", "usual", PAYLOAD.into());
    add("claims", "paths", br#"{"a":{"b":{"c":1}},"a.b":2,"header":{"kid":3},"list":[1,[2],{"x":3},"4"]}"#.to_vec());
    add("opaque_token", "one", b"AZaz09-._~+/=".to_vec());
}

fn requests(add: Add<'_>) {
    let revoke = format!(
        r#"{{"revocations":[{{"selector":{{"sub":"alice","n":42}},"cutoff":"2026-01-31T12:00:00.5Z","expires_in_seconds":60,"exceptions":[{{"sid":"1"}}],"reason":"x"}},{{"token":"{TOKEN}","never_expires":true}}],"request_id":"r1","dry_run":true}}"#
    );
    add("json_revoke", "two", revoke.clone().into());
    let message = fuzzing::json_revoke(revoke.as_bytes()).expect("a sound request");
    add("grpc_revoke", "two", message.encode_to_vec());
    let id = revocation_id();
    let reinstate = format!(r#"{{"reinstatements":[{{"id":"{id}"}},{{"selector":{{"sub":"a"}}}}],"reason":"y"}}"#);
    add("json_reinstate", "two", reinstate.clone().into());
    let message = fuzzing::json_reinstate(reinstate.as_bytes()).expect("a sound request");
    add("grpc_reinstate", "two", message.encode_to_vec());
    let at_least = Position { epoch: EPOCH.id, revision: Revision(2) };
    let list = format!(
        r#"{{"claim":{{"name":"sub","value":"alice"}},"actor":"admin","accepted_from":"2026-01-01T00:00:00Z","live_only":true,"page_size":10,"at_least":"{at_least}"}}"#
    );
    add("json_list", "all", list.clone().into());
    let message = fuzzing::json_list(list.as_bytes()).expect("a sound search");
    add("grpc_query", "list", query(0, &message));
    for (name, check) in [
        ("claims", format!(r#"{{"claims":{{"payload":{PAYLOAD},"header":{{"kid":"k"}}}},"at_least":"{at_least}"}}"#)),
        ("token", format!(r#"{{"token":"{TOKEN}"}}"#)),
    ] {
        add("json_check", name, check.clone().into());
        let message = fuzzing::json_check(check.as_bytes()).expect("a sound check");
        add("grpc_query", &format!("check_{name}"), query(1, &message));
    }
    let position = Some(pb::Position { epoch: EPOCH.id.to_vec(), revision: 2 });
    add("grpc_query", "get", query(2, &pb::GetRevocationRequest { id: id.to_string(), at_least: position.clone() }));
    add("grpc_query", "await", query(3, &pb::AwaitPropagationRequest { position, timeout_millis: 5 }));
    let member = Some(pb::forget_request::Member::Name("leaf".to_owned()));
    add("grpc_query", "forget", query(4, &pb::ForgetRequest { member }));
    let page = pb::ListSubscribersRequest { page_size: 9, page_token: "ab".repeat(16) };
    add("grpc_query", "subscribers", query(5, &page));
}

fn query(kind: u8, message: &impl prost::Message) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(message.encode_to_vec());
    bytes
}

fn text(add: Add<'_>) {
    let server = "issuers = [\"https://a.example\"]\n[server]\nlisten = \"127.0.0.1:7009\"\nhosts = [\"rescind\"]\n\
                  unknown_status = 503\n[policy]\nmax_entries = 1000\nmax_staleness = \"5m\"\nwhen_stale = \"deny\"\n\
                  [journal]\naudit_retention = \"90d\"\n[limits]\nconnections = 100\n[log]\nformat = \"json\"\n";
    let agent = "[agent]\nupstreams = [\"http://127.0.0.1:7009\", \"unix:/run/rescind.sock\"]\n\
                 listen = \"unix:/run/agent.sock\"\nname = \"agent\"\nmax_staleness = \"1m30s\"\nmax_entries = 5\n";
    add("config_server", "all", server.into());
    add("config_agent", "all", agent.into());
    for (name, text) in [("duration", "1w2d3h4m5s"), ("rfc3339", "2026-01-31T12:00:00.5+02:00"), ("ago", "now-1h")] {
        add("time", name, text.into());
    }
    let principals = format!(
        "[[principal]]\nname = \"gate\"\ncertificate = \"spiffe://example/gate\"\nroles = [\"check\"]\n\
         [[principal]]\nname = \"desk\"\ncredential = \"{HASHED}\"\nroles = [\"revoke\"]\nissuers = [\"a\"]\n\
         claims = [\"sub\"]\nwrites_per_minute = 60\n"
    );
    let misplaced = principals.replace(HASHED, SECRET);
    for (name, text) in [("two", principals), ("misplaced_secret", misplaced)] {
        add("principals", name, text.into());
    }
    for (name, text) in
        [("full", POLICY_TEXT.to_owned()), ("unknown_issuer", POLICY_TEXT.replace("[[issuer]]", "[[other]]"))]
    {
        add("policy_text", name, text.into());
    }
    for (name, text) in [("presented", SECRET), ("hashed", HASHED)] {
        add("credential", name, text.into());
    }
    let key = "ab".repeat(32);
    for (name, text) in [("http", "http://[::1]:7009/"), ("unix", "unix:/run/rescind.sock"), ("key", key.as_str())] {
        add("url", name, text.into());
    }
    for (name, text) in [("v6", "[::ffff:127.0.0.1]:1"), ("unix", "unix:/run/a")] {
        add("address", name, text.into());
    }
}
