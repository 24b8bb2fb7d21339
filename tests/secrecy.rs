//! Secrets stay with their owners: nothing that a server, an agent or the command line writes holds a credential or the set
//! key, with everything logged that can be, nor does a core dump.

#![allow(clippy::unwrap_used, reason = "helpers of tests count as tests")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use common::agent::Agent;
use common::house::{House, check_done};
use common::server::{BINARY, Server, command, free_port};
use common::{http, metric, wait_until};
use rescind::client::Client;
use rescind::replica::Upstream as _;
use rescind::replication::frames::{Hello, NodeId, ProtocolRange, Role, ToServer, ToSubscriber};
use rescind::revocation::Revision;
use rescind::security::{BearerSource, ClientSecurity};
use rescind::wire::pb;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_stream::StreamExt as _;

const LIMIT: Duration = Duration::from_secs(20);
/// The secret is the last of a credential's text, in characters.
const SECRET_CHARS: usize = 43;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const EVERYTHING: [(&str, &str); 2] = [("RESCIND_LOG", "trace"), ("RUST_BACKTRACE", "1")];

/// A secret, and every form in which it might be written.
struct Kept {
    what: String,
    forms: Vec<Vec<u8>>,
}

impl Kept {
    fn bytes(what: &str, bytes: &[u8]) -> Self {
        let hex = |digits: fn(&u8) -> String| bytes.iter().map(digits).collect::<String>();
        let listed = |format: fn(&u8) -> String| bytes.iter().map(format).collect::<Vec<_>>().join(", ");
        let mut forms = vec![bytes.to_vec()];
        let texts = [
            hex(|byte| format!("{byte:02x}")),
            hex(|byte| format!("{byte:02X}")),
            listed(ToString::to_string),
            listed(|byte| format!("0x{byte:02x}")),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
            // As `Debug` shows bytes that are nearly text.
            bytes.escape_ascii().to_string(),
        ];
        forms.extend(texts.map(String::into_bytes));
        Self { what: what.to_owned(), forms }
    }

    /// Of a credential's text.
    fn credential(what: &str, text: &str) -> Self {
        let secret = &text[text.len() - SECRET_CHARS..];
        let mut kept = Self::bytes(what, &URL_SAFE_NO_PAD.decode(secret).unwrap());
        // It holds the text as well, and `authorization` within base64.
        kept.forms.push(STANDARD.encode(format!("user:{text}")).into_bytes());
        kept
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.forms.iter().any(|form| text.windows(form.len()).any(|window| window == form))
    }
}

/// What was written, by where.
#[derive(Default)]
struct Written(Vec<(String, Vec<u8>)>);

impl Written {
    fn add(&mut self, place: &str, text: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn add_output(&mut self, place: &str, output: &Output) {
        self.add(&format!("{place} (stdout)"), output.stdout.clone());
        self.add(&format!("{place} (stderr)"), output.stderr.clone());
    }

    /// Everything below a folder.
    fn add_folder(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => self.add_folder(&path),
                false => self.add(&path.display().to_string(), std::fs::read(&path).unwrap_or_default()),
            }
        }
    }

    /// Asserts that none of the secrets is in any of it.
    fn keeps(&self, secrets: &[Kept]) {
        let mut told = Vec::new();
        for (place, text) in &self.0 {
            for secret in secrets {
                let lines = text.split(|byte| *byte == b'\n').filter(|line| secret.is_in(line));
                let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
                if !lines.is_empty() || secret.is_in(text) {
                    told.push(format!("{} is in {place}:\n{}", secret.what, lines.join("\n")));
                }
            }
        }
        assert!(told.is_empty(), "{}", told.join("\n"));
    }
}

/// Bytes over a connection of their own; what came back.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Credentials as they are presented by mistake, at a port.
fn present_wrongly(written: &mut Written, address: SocketAddr, text: &str) {
    let post = |path: &str, headers: &[(&str, &str)]| {
        http::send(address, "POST", path, &[headers, &[JSON]].concat(), b"{}").unwrap()
    };
    let bearer = format!("Bearer {text}");
    let basic = format!("Basic {}", STANDARD.encode(format!("user:{text}")));
    let damaged = format!("Bearer {text}x");
    let in_query = format!("/v1/check?access_token={text}");
    let as_path = format!("/v1/{text}");
    let answers = [
        post("/v1/check", &[("Authorization", &basic)]),
        post("/v1/check", &[("Authorization", &damaged)]),
        post("/v1/check", &[("Authorization", text)]),
        post("/v1/check", &[("Authorization", &bearer), ("Authorization", &bearer)]),
        post("/v1/check", &[("X-Api-Key", text)]),
        post(&in_query, &[]),
        post(&as_path, &[]),
        post(&as_path, &[("Authorization", &bearer)]),
        http::send(address, "POST", "/v1/check", &[("Authorization", &bearer), JSON], text.as_bytes()).unwrap(),
    ];
    for answer in answers {
        written.add("an answer", format!("{answer:?}"));
    }
    // What is not HTTP.
    written.add("an answer", raw(address, &format!("{text}\r\n\r\n")));
    written.add("an answer", raw(address, &format!("POST /v1/check HTTP/1.1\r\nauthorization {bearer}\r\n\r\n")));
}

/// The set key, as subscribers get it.
async fn set_key(house: &House, credential: &Path) -> [u8; 16] {
    let mut connection = house.upstream(credential).connect().await.unwrap();
    let hello = Hello {
        protocol: ProtocolRange::SPOKEN,
        subscriber: NodeId([1; 16]),
        name: "curious".to_owned(),
        role: Role::Leaf,
        held: None,
        min_revision: Revision(0),
        reconnect_reason: String::new(),
        path: Vec::new(),
        version: String::new(),
        probe: true,
        policy: None,
    };
    connection.outgoing.send(ToServer::Hello(Box::new(hello))).await.unwrap();
    match tokio::time::timeout(LIMIT, connection.incoming.next()).await.unwrap() {
        Some(Ok(ToSubscriber::Welcome(welcome))) => *welcome.set_key.expose(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_metric_or_answer_holds_a_credential_or_the_set_key() {
    let mut house = House::open_with(&[("relay", "relay"), ("gate", "check")], "", &EVERYTHING);
    let mut written = Written::default();
    let [relay, gate] = ["relay", "gate"].map(|name| house.credential(name));
    let made = house.create("made", &["--role", "check", "--role", "subscribe"]);
    let text = |path: &Path| std::fs::read_to_string(path).unwrap().trim().to_owned();
    let secrets = [
        Kept::credential("the administrator's credential", &house.minted("ops").text.clone()),
        Kept::credential("the relay's credential", &text(&relay)),
        Kept::credential("the gateway's credential", &text(&gate)),
        Kept::credential("the credential of the journal", &text(&made)),
        Kept::bytes("the set key", &set_key(&house, &relay).await),
    ];
    assert!(secrets[1].is_in(&std::fs::read(&relay).unwrap()), "what is looked for can be found");
    // An agent that follows with a credential, and asks for credentials of its own.
    let principals = house.path("agent-principals.toml");
    let hashed = house.minted("gate").hashed();
    std::fs::write(&principals, format!("[[principal]]\nname = 'gate'\ncredential = '{hashed}'\nroles = ['check']\n"))
        .unwrap();
    let (config, denied, cache) = (house.path("agent.toml"), house.path("agent.ndjson"), house.path("cache"));
    let section =
        format!("[authentication]\nprincipals = '{}'\ndenied_file = '{}'\n", principals.display(), denied.display());
    std::fs::write(&config, section).unwrap();
    let paths = [&config, &relay, &cache].map(|path| path.to_str().unwrap().to_owned());
    let flags = ["--config", &paths[0], "--upstream-credential-file", &paths[1], "--cache-dir", &paths[2]];
    let mut agent = Agent::prepare("agent", &[&house.server.url()], &flags);
    agent.set_environment(EVERYTHING.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec());
    agent.start();
    agent.wait_live();

    let service = Client::builder([house.server.url()]).credential_file(&made).connect().unwrap();
    service.ready(LIMIT).await.unwrap();
    written.add("the client", format!("{service:?} {:?}", service.status()));
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["credential", "list"],
        &["credential", "list", "--json"],
        &["revoke", "--jti", "a"],
        &["list"],
        &["subscribers"],
        &["journal", "export"],
        &["config"],
        &["reinstate", "--jti", "nothing"],
    ] {
        written.add_output(&arguments.join(" "), &house.admin(arguments));
    }
    written.add_output("a denied call", &house.as_principal("gate", &["revoke", "--jti", "b"]));
    for (address, credential) in [(house.server.listen, &made), (agent.listen.unwrap(), &gate)] {
        let bearer = format!("Bearer {}", text(credential));
        let good = http::send(
            address,
            "POST",
            "/v1/check",
            &[("Authorization", &bearer), JSON],
            br#"{"claims":{"payload":{"sub":"a"}}}"#,
        );
        let good = good.unwrap();
        assert_eq!(good.status, 200, "{good:?}");
        written.add("an answer", format!("{good:?}"));
        present_wrongly(&mut written, address, &text(credential));
    }
    check_done(&house.admin(&["credential", "revoke", "--name", "made"]));
    present_wrongly(&mut written, house.server.listen, &text(&made));

    for (name, ops) in [("the server's metrics", house.server.ops), ("the agent's metrics", agent.ops)] {
        written.add(name, http::get(ops, "/metrics").unwrap().body);
        written.add(name, http::get(ops, "/readyz").unwrap().body);
    }
    wait_until("what was denied is written", LIMIT, || {
        let lines = std::fs::read_to_string(house.server.data_dir.join("denied.ndjson")).unwrap_or_default();
        lines.contains("malformed").then_some(())
    });
    house.server.stop();
    let (server_log, agent_log) = (house.server.log_text(), agent.log_text());
    for (name, log) in [("the server's log", &server_log), ("the agent's log", &agent_log)] {
        assert!(log.contains("TRACE") && log.contains("DEBUG"), "{name} does not hold everything");
    }
    written.add("the server's log", server_log);
    written.add("the agent's log", agent_log);
    written.add("the agent's denied", std::fs::read(&denied).unwrap_or_default());
    written.add("the server's denied", std::fs::read(house.server.data_dir.join("denied.ndjson")).unwrap());
    written.keeps(&secrets);
    // The journal, the index and snapshots have the set key, but nothing that lets anybody in.
    let mut disk = Written::default();
    disk.add_folder(&house.server.data_dir);
    disk.add_folder(&cache);
    disk.keeps(&secrets[..4]);
}

/// Runs the binary where it is expected to refuse, or stops it.
fn refused(arguments: &[&str]) -> Output {
    let mut command = command(arguments);
    command.envs(EVERYTHING).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_until("it refuses", LIMIT, || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    output
}

#[test]
fn a_credential_in_the_wrong_place_is_refused_and_not_repeated() {
    let minted = rescind::security::credential::mint().unwrap();
    let text = minted.text.as_str();
    let secrets = [Kept::credential("the credential", text)];
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut written = Written::default();
    let entry = |rest: String| format!("[[principal]]\nname = 'a'\nroles = ['check']\n{rest}\n");
    let principals = [
        ("as what is kept of it", entry(format!("credential = '{text}'"))),
        ("as a key", entry(format!("{text} = 1"))),
        ("without quotes", entry(format!("credential = {text}"))),
        ("as a certificate", entry(format!("certificate = '{text}'"))),
        ("as a role", format!("[[principal]]\nname = 'a'\nroles = ['{text}']\n")),
    ];
    for (how, file) in principals {
        let principals = write("principals.toml", file);
        let config = write("rescind.toml", format!("[authentication]\nprincipals = '{principals}'\n"));
        written.add_output(&format!("principals: {how}"), &refused(&["config", "check", "--config", &config]));
    }
    for (how, file) in [
        ("a key that there is not", format!("[upstream]\ncredential = '{text}'\n")),
        ("without quotes", format!("[upstream]\ncredential_file = {text}\n")),
        (
            "where a file belongs",
            format!("[agent]\nupstreams = ['http://127.0.0.1:1']\n[upstream]\ncredential_file = '{text}'\n"),
        ),
        ("in a URL", format!("[agent]\nupstreams = ['http://user:{text}@127.0.0.1:1']\n")),
        ("where a number belongs", format!("[limits]\nrequests = '{text}'\n")),
    ] {
        let config = write("rescind.toml", file);
        let agent = ["agent", "--upstream", "http://127.0.0.1:1", "--config", &config];
        let arguments = if how == "in a URL" { &["agent", "--config", &config][..] } else { &agent[..] };
        written.add_output(&format!("configuration: {how}"), &refused(arguments));
    }
    let with_user = format!("http://user:{text}@127.0.0.1:1");
    for arguments in [
        &["status", "--server", "http://127.0.0.1:1", "--credential-file", text][..],
        &["status", "--server", &with_user],
        &["agent", "--upstream", &with_user],
        &["agent", "--upstream", "http://127.0.0.1:1", "--upstream-credential-file", text],
    ] {
        written.add_output(&arguments.join(" ").replace(text, "(it)"), &refused(arguments));
    }
    written.keeps(&secrets);
}

/// The same while a server runs, which then goes on with what it has.
#[test]
fn a_credential_in_the_wrong_place_of_a_file_that_is_read_again_is_not_logged() {
    let mut house = House::open_with(&[], "", &EVERYTHING);
    let text = house.minted("gate").text.to_string();
    let secrets = [Kept::credential("the credential", &text)];
    for entry in [
        format!("name = 'a'\nroles = ['check']\ncertificate = '{text}'"),
        format!("name = 'a'\nroles = ['check']\n{text} = 1"),
        format!("name = 'a'\nroles = ['{text}']"),
    ] {
        let failed = || metric(house.server.ops, "rescind_reload_failures_total{files=\"principals\"}");
        let before = failed();
        house.keep("principals.toml", &format!("[[principal]]\n{entry}\n"));
        let pid = house.server.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        wait_until("the file is refused", LIMIT, || (failed() > before).then_some(()));
    }
    let mut written = Written::default();
    written.add("the log", house.server.log_text());
    written.keeps(&secrets);
}

#[test]
fn no_form_for_people_shows_a_secret() {
    let minted = rescind::security::credential::mint().unwrap();
    let text = minted.text.as_str();
    let key = [0x5e, 0xc2, 0xe7, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    let secrets = [Kept::credential("the credential", text), Kept::bytes("the set key", &key)];
    let source = BearerSource::Text(text.parse().unwrap());
    let welcome = pb::Welcome { set_key: key.to_vec(), ..Default::default() };
    let frame = pb::subscribe_response::Frame::Welcome(welcome.clone());
    let created = pb::CreateCredentialResponse { text: text.to_owned(), ..Default::default() };
    let mut written = Written::default();
    for (what, shown) in [
        ("a credential's source", format!("{source:?} {source:#?}")),
        ("a client's security", format!("{:?}", ClientSecurity::of(Default::default(), Some(source)))),
        ("a minted credential", format!("{minted:?}")),
        ("a Welcome on the wire", format!("{welcome:?} {welcome:#?}")),
        ("an answer on the wire", format!("{:?}", pb::SubscribeResponse { frame: Some(frame) })),
        ("a created credential on the wire", format!("{created:?} {created:#?}")),
        ("a set key", format!("{:?}", rescind::revocation::SetKey::new(key))),
    ] {
        written.add(what, shown);
    }
    written.keeps(&secrets);
}

/// Ends a process as a crash would; whether the kernel wrote its memory down.
fn leaves_a_core(mut child: Child) -> bool {
    assert!(Command::new("kill").args(["-ABRT", &child.id().to_string()]).status().unwrap().success());
    let ended = child.wait().unwrap();
    assert_eq!(ended.signal(), Some(6), "{ended:?}");
    ended.core_dumped()
}

#[test]
fn a_server_and_an_agent_that_crash_leave_no_core_dump() {
    // Children may write one as far as this process may let them.
    let limits = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limits.maximum, maximum: limits.maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plain = Command::new("sleep").arg("100").current_dir(dir.path()).spawn().unwrap();
    if !leaves_a_core(plain) {
        return common::skip("this machine writes no core dumps, so that none can be missing");
    }
    let server = Server::start();
    let (listen, ops) = (free_port(), free_port());
    let [listen_text, ops_text] = [listen, ops].map(|address| address.to_string());
    let serve = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--listen", &listen_text, "--ops-listen", &ops_text]).current_dir(dir.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("it is ready", LIMIT, || http::get(ops, "/readyz").filter(|answer| answer.status == 200));
        child
    };
    let data_dir = dir.path().join("data");
    assert!(!leaves_a_core(serve(&["serve", "--data-dir", data_dir.to_str().unwrap()])), "the server");
    assert!(!leaves_a_core(serve(&["agent", "--upstream", &server.url()])), "the agent");
}
