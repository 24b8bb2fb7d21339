//! A client of the h2 crate as it comes: windows of 64 KiB, and a budget for small DATA frames that it has not read.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::surface::{Bounds, Listener};

const DELTAS: u64 = 600;
/// Less than they take together, in bytes, and so many that nearly all have come. All fit into the window.
const NEARLY_ALL: usize = 45_000;

/// Such clients once hung up (`too_many_data_frames`) over some 140 of the smallest frames.
#[tokio::test]
async fn a_client_that_reads_a_backlog_late_is_not_driven_away() {
    let hub = hub();
    (1..=DELTAS).for_each(|revision| publish(&hub, revision));
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(address.into(), "--listen").await.unwrap();
    let address = listener.address().tcp().unwrap();
    let app = tonic::service::Routes::new(subscribe_service(hub)).prepare().into_axum_router();
    let stop = CancellationToken::new();
    let served = tokio::spawn(listener.serve(app, Bounds::connections(1), stop.clone()));

    let socket = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}{SUBSCRIBE_PATH}")).header(header::CONTENT_TYPE, GRPC);
    let (response, mut requests) =
        client.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    requests.send_data(framed(&pb::SubscribeRequest::from(&hello())), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    until(|| body.flow_control().used_capacity() >= NEARLY_ALL || connection.is_finished()).await;

    let (last, mut bytes) = (format!("delta {DELTAS}"), Vec::new());
    let read = async {
        while !bytes.windows(last.len()).any(|window| window == last.as_bytes()) {
            bytes.extend_from_slice(&body.data().await.unwrap().unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    drop((requests, body));
    connection.abort();
    stop.cancel();
    served.await.unwrap();
}
