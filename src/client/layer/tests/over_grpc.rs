//! Through tonic, at both ends.

use std::net::SocketAddr;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server as GrpcServer};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

/// The health service, where it is told who asks.
async fn serve(stage: &Stage, layer: VerifyLayer) -> HealthClient<Channel> {
    let reached = Arc::clone(&stage.reached);
    let sees = move |request: tonic::Request<()>| {
        reached.fetch_add(1, Ordering::SeqCst);
        match request.extensions().get::<Allowed>().and_then(|allowed| allowed.subject.as_deref()) {
            Some("ada") => Ok(request),
            other => Err(Status::failed_precondition(format!("{other:?}"))),
        }
    };
    let (_, health) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let server = GrpcServer::builder().layer(layer).add_service(InterceptedService::new(health, sees));
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    HealthClient::new(channel)
}

fn request(token: Option<&str>) -> tonic::Request<HealthCheckRequest> {
    let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

async fn code(health: &mut HealthClient<Channel>, token: Option<&str>) -> Code {
    health.check(request(token)).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn refusals_are_grpc_statuses_that_callers_understand() {
    let mut stage = Stage::set().await;
    let mut health = serve(&stage, stage.layer()).await;
    let good = stage.good();
    assert_eq!(code(&mut health, Some(&good)).await, Code::Ok);
    let past = BEGIN.0 / 1000 - 10;
    for (token, expected, challenge) in [
        (None, Code::Unauthenticated, r#"Bearer realm="orders""#.to_owned()),
        (Some("a b".to_owned()), Code::Unauthenticated, "invalid_request".to_owned()),
        (Some("a.b.c".to_owned()), Code::Unauthenticated, "invalid_token".to_owned()),
        (Some(Mint::new("k1").token(json!({ "scope": "read" }))), Code::Unauthenticated, "invalid_token".to_owned()),
        (Some(stage.mint.token(json!({ "exp": past }))), Code::Unauthenticated, "invalid_token".to_owned()),
        (Some(stage.mint.token(json!({ "aud": "other" }))), Code::Unauthenticated, "invalid_token".to_owned()),
        (
            Some(stage.mint.token(json!({ "sub": "mallory", "scope": "read" }))),
            Code::Unauthenticated,
            "invalid_token".to_owned(),
        ),
        (Some(stage.mint.token(json!({}))), Code::PermissionDenied, r#"scope="read""#.to_owned()),
    ] {
        let refused = health.check(request(token.as_deref())).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{refused:?}");
        assert!(!refused.message().is_empty());
        let told = refused.metadata().get("www-authenticate").unwrap().to_str().unwrap();
        assert!(told.contains(&challenge), "{told}");
    }
    let streaming = health.watch(request(None)).await.unwrap_err();
    assert_eq!(streaming.code(), Code::Unauthenticated);
    assert_eq!(stage.reached(), 1, "nothing that is refused comes to the service");

    stage.revoke("ada").await;
    assert_eq!(code(&mut health, Some(&good)).await, Code::Unauthenticated);
}

#[tokio::test]
async fn without_an_authority_grpc_goes_on_until_it_is_too_stale_to_tell() {
    let mut stage = Stage::set().await;
    let mut health = serve(&stage, stage.layer()).await;
    let good = stage.good();
    stage.kill_authority().await;
    assert_eq!(code(&mut health, Some(&good)).await, Code::Ok);
    stage.grow_stale();
    assert_eq!(code(&mut health, Some(&good)).await, Code::Unavailable);
}
