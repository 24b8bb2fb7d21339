//! Subscribers that stop taking what they are sent, or stop saying what they took.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rescind::replication::frames::{GoAwayReason, Role};
use rescind::wire::pb;
use rescind::wire::pb::go_away::Reason;
use rescind::wire::pb::replication_service_client::ReplicationServiceClient;
use rescind::wire::pb::subscribe_request::Frame as Asked;
use rescind::wire::pb::subscribe_response::Frame;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::network::{PORT, dial};
use super::world::{AUTHORITY, World};

const SECOND: Duration = Duration::from_secs(1);
/// What may be sent to it ahead of its reading, in bytes: HTTP/2's own choice.
const WINDOW_BYTES: u32 = 64 << 10;
/// The hub's window, the transport's buffer and the frames on their way to it, with room to spare.
const FILL_BYTES: u64 = 448 << 10;

/// A subscription by hand, on the host that this runs on.
async fn subscribe(host: &str) -> (mpsc::Sender<pb::SubscribeRequest>, tonic::Streaming<pb::SubscribeResponse>) {
    let endpoint = Endpoint::from_shared(format!("http://{host}:{PORT}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(WINDOW_BYTES);
    let connector = tower::service_fn(|uri| async { dial(uri).await.map(hyper_util::rt::TokioIo::new) });
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let (requests, queue) = mpsc::channel(4);
    let hello = pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        subscriber_id: vec![0x77; 16],
        subscriber_name: "by hand".into(),
        role: pb::hello::Role::Leaf.into(),
        ..pb::Hello::default()
    };
    requests.send(request(Asked::Hello(hello))).await.unwrap();
    let answered = ReplicationServiceClient::new(channel).subscribe(ReceiverStream::new(queue)).await;
    (requests, answered.unwrap().into_inner())
}

fn request(frame: Asked) -> pb::SubscribeRequest {
    pb::SubscribeRequest { frame: Some(frame) }
}

/// A fleet of a relay and a leaf below it, and the number of those by hand at a server.
fn fleet(seed: u64) -> World {
    let mut world = World::new(seed);
    world.add("relay", Role::Relay, &[AUTHORITY]);
    world.assert_converges(30 * SECOND);
    world.add("leaf", Role::Leaf, &["relay"]);
    world.revoke(5);
    world.assert_converges(30 * SECOND);
    world
}

/// How many a server has sent away for taking or acknowledging nothing.
fn stalled(world: &World, server: &str) -> u64 {
    let sent_away = if server == AUTHORITY { world.authority.sent_away() } else { world.nodes[0].sent_away() };
    sent_away.unwrap().counts()[GoAwayReason::Stalled as usize]
}

fn by_hand(world: &World, server: &str) -> usize {
    let hub = if server == AUTHORITY { world.authority.hub() } else { world.nodes[0].hub() };
    hub.unwrap().subscribers().iter().filter(|subscriber| subscriber.name == "by hand").count()
}

#[test]
fn a_subscriber_that_never_acks_is_sent_away_after_thirty_seconds() {
    for server in [AUTHORITY, "relay"] {
        let mut world = fleet(11);
        let told = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&told);
        world.sim.client("silent", async move {
            let (_requests, mut answers) = subscribe(server).await;
            while let Some(answer) = answers.message().await? {
                if let Some(Frame::GoAway(away)) = answer.frame {
                    *tell.lock() = Some(away);
                }
            }
            Ok(())
        });
        world.run_until("it is there", 5 * SECOND, |world| by_hand(world, server) == 1);
        world.revoke(1);
        let cut = world.run_until("it is sent away", 40 * SECOND, |world| by_hand(world, server) == 0);
        assert!(cut >= 29 * SECOND && cut <= 31 * SECOND, "{server} sent it away after {cut:?}");
        world.run_for(SECOND);
        let away = told.lock().take().expect("it was told why");
        assert_eq!((away.reason(), away.detail.as_str()), (Reason::Stalled, "no ack for 30 s"), "{server}");
        assert_eq!(stalled(&world, server), 1);
        world.assert_converges(30 * SECOND);
    }
}

/// It goes on saying that it is alive, so that only what it does not take gives it away.
#[test]
fn a_reader_that_takes_nothing_is_cut_after_thirty_seconds_however_often_it_acks() {
    for (server, pause) in [(AUTHORITY, SECOND), (AUTHORITY, 25 * SECOND), ("relay", SECOND)] {
        let mut world = fleet(12);
        world.sim.client("stalled", async move {
            let (requests, _answers) = subscribe(server).await;
            let nothing = pb::Ack { digest: vec![0; 16], ..pb::Ack::default() };
            // Until the server cuts it.
            while requests.send(request(Asked::Ack(nothing.clone()))).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
            std::future::pending::<()>().await;
            Ok(())
        });
        world.run_until("it is there", 5 * SECOND, |world| by_hand(world, server) == 1);
        let mut filled = 0;
        let cut = world.run_until("it is cut", 90 * SECOND, |world| {
            // Within the first second every buffer on the way is full.
            if filled < FILL_BYTES {
                world.revoke(400);
                filled += 400 * 24;
            }
            by_hand(world, server) == 0
        });
        assert!(cut >= 30 * SECOND && cut <= 33 * SECOND, "{server} cut it after {cut:?}");
        assert_eq!(stalled(&world, server), 1);
        world.assert_converges(30 * SECOND);
    }
}
