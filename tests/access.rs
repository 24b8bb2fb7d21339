//! Every role against every call, with the real binary: the table is read out of docs/access.md, so that it is true.

#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::print_stdout, reason = "what a failed test needs told")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::http;
use common::server::Server;
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use rescind::replication::frames::{NodeId, Role as Position, ToServer};
use rescind::revocation::grant::{Role, Roles};
use rescind::security::call::Call;
use rescind::security::credential::{Minted, mint};
use rescind::security::{BearerSource, ClientSecurity};
use rescind::wire::{Calls, DESCRIPTORS, Dialler, pb};
use tonic::Code;
use tonic::body::Body;
use tower::ServiceExt as _;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const AS_LEAF: &str = " as leaf";
const AS_RELAY: &str = " as relay";

/// A row of the table: what is called, and which columns may.
struct Row {
    call: String,
    allowed: BTreeSet<String>,
}

/// How a call was answered, as far as access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Allowed,
    Denied,
    Unauthenticated,
}

fn table() -> (Vec<String>, Vec<Row>) {
    let text = include_str!("../docs/access.md");
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| call |"));
    let columns = cells(lines.next().unwrap())[1..].to_vec();
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| {
        let cells = cells(line);
        assert_eq!(cells.len(), columns.len() + 1, "{line}");
        let allowed = columns.iter().zip(&cells[1..]).filter(|(_, cell)| match cell.as_str() {
            "yes" => true,
            "no" => false,
            other => panic!("{other} in {line}"),
        });
        Row {
            call: cells[0].trim_matches('`').to_owned(),
            allowed: allowed.map(|(column, _)| column.clone()).collect(),
        }
    });
    let rows = rows.collect();
    (columns, rows)
}

/// The path, without how one subscribes or that it is HTTP.
fn path_of(call: &str) -> &str {
    let path = call.strip_prefix("POST ").or(call.strip_prefix("GET ")).unwrap_or(call);
    path.strip_suffix(AS_LEAF).or(path.strip_suffix(AS_RELAY)).unwrap_or(path)
}

#[test]
fn the_table_says_what_the_code_does_and_leaves_nothing_out() {
    let (columns, rows) = table();
    let roles: Vec<String> = Role::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(columns, [&["nobody".to_owned()][..], &roles].concat());
    let documented: BTreeSet<&str> = rows.iter().map(|row| path_of(&row.call)).collect();
    let answered: BTreeSet<&str> = Call::paths().map(|(path, _)| path).collect();
    assert_eq!(documented, answered);
    for row in &rows {
        let need = Call::at(path_of(&row.call)).unwrap().need();
        for role in Role::ALL {
            let may = need.allows([role].into_iter().collect::<Roles>());
            let is_allowed = row.allowed.contains(role.name());
            // To subscribe as a relay takes more than to subscribe.
            assert!(may == is_allowed || (row.call.ends_with(AS_RELAY) && may), "{role} at {}", row.call);
        }
    }
}

#[test]
fn every_method_of_the_protocol_is_in_the_table() {
    let (_, rows) = table();
    let documented: BTreeSet<&str> = rows.iter().map(|row| path_of(&row.call)).collect();
    let reflection =
        [tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET];
    for descriptors in [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET].into_iter().chain(reflection) {
        let set = prost_types::FileDescriptorSet::decode(descriptors).unwrap();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(documented.contains(path.as_str()), "{path} is not in docs/access.md");
                }
            }
        }
    }
}

/// A server that knows one principal for each role, by a credential.
struct House {
    server: Server,
    credentials: BTreeMap<String, Minted>,
    _dir: tempfile::TempDir,
}

impl House {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credentials: BTreeMap<String, Minted> =
            Role::ALL.iter().map(|role| (role.to_string(), mint().unwrap())).collect();
        let principal = |(role, minted): (&String, &Minted)| {
            format!("[[principal]]\nname = 'a {role}'\ncredential = '{}'\nroles = ['{role}']\n", minted.hashed())
        };
        let principals: String = credentials.iter().map(principal).collect();
        let (file, config) = (dir.path().join("principals.toml"), dir.path().join("rescind.toml"));
        std::fs::write(&file, principals).unwrap();
        std::fs::write(&config, format!("[authentication]\nprincipals = '{}'\n", file.display())).unwrap();
        let server = Server::start_with(None, &["--config", config.to_str().unwrap()]);
        Self { server, credentials, _dir: dir }
    }

    async fn calls(&self, who: &str) -> Calls {
        let text = self.credentials.get(who).map(|minted| minted.text.as_str());
        let bearer = text.map(|text| BearerSource::Text(text.parse().unwrap()));
        let security = Arc::new(ClientSecurity::of(Default::default(), bearer));
        let url = format!("http://{}", self.server.listen).parse().unwrap();
        Dialler::new(url, security).unwrap().dial(|endpoint| endpoint).await.unwrap()
    }

    async fn ask(&self, calls: &Calls, who: &str, call: &str) -> Answer {
        match call.split_once(' ') {
            Some((method @ ("GET" | "POST"), path)) => self.http(who, method, path),
            _ => grpc(calls, who, call).await,
        }
    }

    fn http(&self, who: &str, method: &str, path: &str) -> Answer {
        let authorization = self.credentials.get(who).map(|minted| format!("Bearer {}", minted.text.as_str()));
        let is_oauth = path.starts_with("/oauth2/");
        let kind = if is_oauth { "application/x-www-form-urlencoded" } else { "application/json" };
        let json = ("Content-Type", kind);
        let headers: Vec<(&str, &str)> =
            [Some(json), authorization.as_deref().map(|text| ("Authorization", text))].into_iter().flatten().collect();
        // A user who brings a token; what is said about that is no answer to the gateway's own question.
        let of_user = (path == "/authz").then_some(("X-Forwarded-Authorization", "Bearer a.b.c"));
        let headers: Vec<_> = headers.into_iter().chain(of_user).collect();
        let answer = http::send(self.server.listen, method, path, &headers, b"{}").unwrap();
        let call = Call::at(path);
        match answer.status {
            401 => Answer::Unauthenticated,
            403 => Answer::Denied,
            // Without a public URL the metadata are not there, which it takes being let in to learn.
            404 if call == Some(Call::ServerMetadata) => Answer::Allowed,
            404 => panic!("there is no {path}"),
            _ => Answer::Allowed,
        }
    }
}

/// An empty message to any method; to `Subscribe`, a Hello.
async fn grpc(calls: &Calls, who: &str, call: &str) -> Answer {
    let message = match (call.ends_with(AS_LEAF), call.ends_with(AS_RELAY)) {
        (true, _) => hello(who, Position::Leaf),
        (_, true) => hello(who, Position::Relay),
        _ => Vec::new(),
    };
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let request = ::http::Request::post(path_of(call))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::from(framed))))
        .unwrap();
    let response = calls.clone().oneshot(request).await.unwrap();
    let told = |status: &::http::HeaderValue| answer(Code::from_bytes(status.as_bytes()), call);
    if let Some(status) = response.headers().get("grpc-status") {
        return told(status);
    }
    // Whoever is let in is answered, or told in the end what was wrong.
    let mut body = response.into_body();
    loop {
        let frame = tokio::time::timeout(ANSWER_WITHIN, body.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("{call} is not answered to {who}"));
        match frame.expect("it ends with a status").unwrap().into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => return said(&data, call),
            Err(frame) => return told(&frame.into_trailers().unwrap()["grpc-status"]),
        }
    }
}

fn answer(code: Code, call: &str) -> Answer {
    match code {
        Code::Unauthenticated => Answer::Unauthenticated,
        Code::PermissionDenied => Answer::Denied,
        Code::Unimplemented => panic!("there is no {call}"),
        _ => Answer::Allowed,
    }
}

/// The first message: only a subscription says in one that it is denied.
fn said(data: &[u8], call: &str) -> Answer {
    if !call.contains("/Subscribe ") {
        return Answer::Allowed;
    }
    let length = u32::from_be_bytes(data[1..5].try_into().unwrap()) as usize;
    let frame = pb::SubscribeResponse::decode(&data[5..5 + length]).unwrap().frame.unwrap();
    match frame {
        pb::subscribe_response::Frame::GoAway(away) => {
            assert_eq!(away.reason(), pb::go_away::Reason::Denied, "{}", away.detail);
            Answer::Denied
        }
        _ => Answer::Allowed,
    }
}

fn hello(who: &str, role: Position) -> Vec<u8> {
    // Each principal has members of its own.
    let number = Role::ALL.iter().position(|role| role.name() == who).map_or(100, |at| at as u8 + 1);
    let hello = common::hello(NodeId([number + if role == Position::Relay { 50 } else { 0 }; 16]), who, role);
    pb::SubscribeRequest::from(&ToServer::Hello(Box::new(hello))).encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_table_is_true() {
    let house = House::open();
    let (columns, rows) = table();
    let mut wrong = Vec::new();
    for who in &columns {
        let calls = house.calls(who).await;
        for row in &rows {
            let expected = match (row.allowed.contains(who), who.as_str()) {
                (true, _) => Answer::Allowed,
                (false, "nobody") => Answer::Unauthenticated,
                (false, _) => Answer::Denied,
            };
            let answer = house.ask(&calls, who, &row.call).await;
            if answer != expected {
                wrong.push(format!("{who} at {}: {answer:?}, not {expected:?}", row.call));
            }
        }
    }
    println!("{} cells", columns.len() * rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The status of a gRPC call that ends at once.
async fn code(calls: &Calls, path: &str) -> Code {
    let request = ::http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let response = calls.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    Code::from_bytes(response.headers()["grpc-status"].as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_table_is_there_for_nobody() {
    let house = House::open();
    let admin = format!("Bearer {}", house.credentials["admin"].text.as_str());
    for path in
        ["/", "/v1", "/v1/checks", "/v1/check/", "//v1/check", "/V1/check", "/v1/check%2e", "/metrics", "/readyz"]
    {
        for method in ["GET", "POST"] {
            let answer = |headers: &[(&str, &str)]| {
                http::send(house.server.listen, method, path, headers, b"{}").unwrap().status
            };
            assert_eq!((answer(&[]), answer(&[("Authorization", &admin)])), (401, 404), "{method} {path}");
        }
    }
    let (nobody, admin) = (house.calls("nobody").await, house.calls("admin").await);
    for path in ["/rescind.v1.AdminService/Nothing", "/rescind.v1.Nothing/Nothing", "/grpc.health.v1.Health/Nothing"] {
        let codes = (code(&nobody, path).await, code(&admin, path).await);
        assert_eq!(codes, (Code::Unauthenticated, Code::Unimplemented), "{path}");
    }
}
