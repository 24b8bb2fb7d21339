//! A Unix socket: who gets it, what it serves, and what becomes of its file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Endpoint;

use crate::surface::testing::FakeNode;
use crate::surface::{Address, BindError, Bounds, Listener, Options, Surface};
use crate::wire::pb;
use crate::wire::pb::check_service_client::CheckServiceClient;
use crate::wire::pb::revocation_service_client::RevocationServiceClient;

fn address(path: &Path) -> Address {
    format!("unix:{}", path.display()).parse().unwrap()
}

async fn bind(path: &Path) -> Result<Listener, BindError> {
    Listener::bind(address(path), "--listen").await
}

/// A surface served on a socket in a folder of its own.
struct Served {
    node: Arc<FakeNode>,
    dir: TempDir,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let (node, dir, stop) = (FakeNode::new(), tempfile::tempdir().unwrap(), CancellationToken::new());
        let listener = bind(&dir.path().join("s")).await.unwrap();
        let app = Surface::new(node.node(), &Options::default(), Routes::default()).app;
        let done = tokio::spawn(listener.serve(app, Bounds::connections(8), stop.clone()));
        Self { node, dir, stop, done }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("s")
    }
}

#[tokio::test]
async fn a_unix_socket_speaks_grpc_and_json() {
    let served = Served::start().await;
    let endpoint = Endpoint::from_shared(address(&served.path()).to_string()).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let token = pb::PresentedToken { presented: Some(pb::presented_token::Presented::Token("a".into())) };
    let request = pb::CheckTokenRequest { token: Some(token), at_least: None };
    assert!(CheckServiceClient::new(channel.clone()).check_token(request).await.is_ok());

    let claims = vec![pb::Claim { name: "sub".into(), value: "alice".into() }];
    let target = Some(pb::revocation::Target::Selector(pb::Selector { claims }));
    let revocations = vec![pb::Revocation { target, ..Default::default() }];
    let request = pb::RevokeRequest { revocations, ..Default::default() };
    RevocationServiceClient::new(channel).revoke(request).await.unwrap();

    let body = "{\"revocations\":[{\"selector\":{\"sub\":\"alice\"}}]}";
    let mut stream = UnixStream::connect(served.path()).await.unwrap();
    let request = format!(
        "POST /v1/revocations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");

    let asked = served.node.revokes.lock();
    assert_eq!(asked[0].caller.principal, "anonymous@unix");
    assert_eq!(asked[0].caller, asked[1].caller);
}

#[tokio::test]
async fn the_user_and_the_group_may_connect_and_the_file_goes_with_the_server() {
    let served = Served::start().await;
    let mode = std::fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    served.stop.cancel();
    served.done.await.unwrap();
    assert!(!served.dir.path().join("s").exists());
}

#[tokio::test]
async fn a_socket_that_nobody_answers_on_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "it is left behind");
    let listener = bind(&path).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_somebody_answers_on_is_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let first = bind(&path).await.unwrap();
    let refused = bind(&path).await.unwrap_err();
    assert!(matches!(refused, BindError::Taken { .. }));
    let message = refused.to_string();
    assert!(message.ends_with("is taken by another process; choose another with --listen unix:/PATH"), "{message}");
    assert_eq!(first.address(), &address(&path));
    assert!(UnixStream::connect(&path).await.is_ok(), "the first still answers");
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path).await.unwrap_err(), BindError::NotSocket { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let nowhere = bind(&dir.path().join("missing/s")).await.unwrap_err();
    assert!(matches!(nowhere, BindError::Io { .. }));
}

#[tokio::test]
async fn a_file_that_another_put_in_its_place_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let first = bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let second = bind(&path).await.unwrap();
    drop(first);
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(second);
    assert!(!path.exists());
}
