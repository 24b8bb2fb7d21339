//! Which requests are refused, and what becomes of slow ones.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::*;

/// A body whose parts come when the test says so.
struct Drip(mpsc::Receiver<Bytes>);

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

fn budget(requests_max: usize) -> Arc<Budget> {
    let budget = Arc::<Budget>::default();
    budget.limit(requests_max);
    budget
}

/// A request that is admitted, its body, and where the body comes from.
fn request(budget: &Arc<Budget>) -> (Admitted, Arriving<Drip>, mpsc::Sender<Bytes>) {
    let (parts, drip) = mpsc::channel(1);
    let admitted = budget.admit(Class::Check).unwrap();
    let body = Arriving::new(Drip(drip), admitted.ticket());
    (admitted, body, parts)
}

/// Whether the body makes its reader wait.
fn waits(body: &mut Arriving<Drip>) -> bool {
    pin!(body).poll_frame(&mut Context::from_waker(Waker::noop())).is_pending()
}

fn late(error: &tonic::codegen::StdError) -> Option<Late> {
    Late::of(&**error)
}

#[test]
fn what_can_wait_is_refused_first_and_checks_last() {
    use Class::{Background, Check, Subscription, Vital, Write};
    let budget = budget(8);
    let mut under_way = Vec::new();
    for (most, refused) in [(2, Background), (4, Subscription), (6, Write), (8, Check)] {
        while under_way.len() < most {
            under_way.push(budget.admit(Check).unwrap());
        }
        for class in [Background, Subscription, Write, Check, Vital] {
            let is_refused = class <= refused || most == 8;
            assert_eq!(budget.admit(class).is_err(), is_refused, "{class:?} with {most} under way");
        }
    }
    assert_eq!(budget.shed(), [4, 3, 2, 1, 1]);
    under_way.truncate(1);
    assert!(budget.admit(Background).is_ok());
    drop(under_way);
    assert_eq!(budget.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_takes_no_place_from_anybody() {
    let budget = budget(1);
    let (admitted, mut body, parts) = request(&budget);
    assert!(budget.admit(Class::Check).is_err(), "it may be about to be answered");
    assert!(waits(&mut body));
    assert_eq!(budget.under_way(), 0);
    drop(budget.admit(Class::Check).unwrap());
    parts.send(Bytes::from_static(b"x")).await.unwrap();
    drop(parts);
    body.collect().await.unwrap();
    assert_eq!(budget.under_way(), 1, "now it is worked on");
    drop(admitted);
    assert_eq!(budget.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_slowest_goes_when_too_many_are_slow() {
    let budget = budget(2);
    let mut slow = Vec::new();
    for _ in 0..3 {
        let (admitted, mut body, parts) = request(&budget);
        assert!(waits(&mut body));
        slow.push((admitted, body, parts));
    }
    let (_admitted, first, _parts) = slow.remove(0);
    assert_eq!(late(&first.collect().await.unwrap_err()), Some(Late::Displaced));
    assert!(slow.iter_mut().all(|(_, body, _)| waits(body)), "the others go on");
    assert_eq!(budget.shed()[Class::Check as usize], 1);
    // Those that have left, or were answered in the meantime, are not counted among the slow.
    slow.clear();
    for _ in 0..20 {
        let (_admitted, mut body, _parts) = request(&budget);
        assert!(waits(&mut body));
    }
    assert_eq!(budget.shed()[Class::Check as usize], 1);
    assert!(budget.aside.lock().len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_displaced_body_wakes_its_reader() {
    let budget = budget(1);
    let (_first, body, _parts) = request(&budget);
    let reader = tokio::spawn(body.collect());
    tokio::task::yield_now().await;
    let (_second, mut other, _other_parts) = request(&budget);
    assert!(waits(&mut other));
    assert_eq!(late(&reader.await.unwrap().unwrap_err()), Some(Late::Displaced));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_has_a_deadline() {
    let budget = budget(8);
    let (_admitted, body, parts) = request(&budget);
    let drip = tokio::spawn(async move {
        while parts.send(Bytes::from_static(b"x")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = tokio::time::Instant::now();
    let error = body.collect().await.unwrap_err();
    assert_eq!((late(&error), begun.elapsed()), (Some(Late::Slow), BODY_WITHIN));
    let status = Status::from_error(error);
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(status.message().contains("30 s"), "{status}");
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_held_of_all_bodies_is_bounded() {
    let budget = budget(1000);
    let part = Bytes::from(vec![0; 4 << 20]);
    let mut held = Vec::new();
    let refused = loop {
        let (admitted, mut body, parts) = request(&budget);
        parts.send(part.clone()).await.unwrap();
        match body.frame().await.unwrap() {
            Ok(_) => held.push((admitted, body)),
            Err(error) => break error,
        }
    };
    assert_eq!(late(&refused), Some(Late::Large));
    let counted = part.len() - BODY_BYTES_FREE;
    assert_eq!(held.len(), BODY_BYTES_MAX / counted);
    // Small ones are taken all the same.
    let (_admitted, mut body, parts) = request(&budget);
    parts.send(Bytes::from(vec![0; BODY_BYTES_FREE])).await.unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    // It is held as long as the request is worked on, not only while it is read.
    let admitted: Vec<Admitted> = held.into_iter().map(|(admitted, _)| admitted).collect();
    assert_eq!(budget.body_bytes.load(Ordering::Relaxed), admitted.len() * counted);
    drop(admitted);
    assert_eq!(budget.body_bytes.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_refusal_says_when_to_try_again_in_the_callers_form() {
    let response = Shed(Class::Write).response(true);
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY_DELAY));
    let response = Shed(Class::Check).response(false);
    assert_eq!(response.status().as_u16(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "urn:rescind:problem:overloaded");
    assert!(body["detail"].as_str().unwrap().contains("another check"), "{body}");
}
