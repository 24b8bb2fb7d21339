//! A request body on its way: how long it may take, and how much of it is held.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::{BODY_BYTES_FREE, Budget, Class, overloaded};

/// How long a body may take from the first time that it makes its reader wait. A subscription's has no end.
pub(in crate::surface) const BODY_WITHIN: Duration = Duration::from_secs(30);

/// A request's place in the budget, shared with its body.
#[derive(Debug)]
pub(in crate::surface) struct Ticket {
    budget: Arc<Budget>,
    class: Class,
    state: Mutex<State>,
    /// Bytes of the body that count.
    held: AtomicUsize,
    /// Only once set is the state worth a lock.
    is_displaced: AtomicBool,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    UnderWay,
    Aside,
    Finished,
}

#[derive(Debug)]
struct State {
    step: Step,
    waker: Option<Waker>,
}

impl Ticket {
    pub(super) fn new(budget: Arc<Budget>, class: Class) -> Self {
        let state = Mutex::new(State { step: Step::UnderWay, waker: None });
        Self { budget, class, state, held: AtomicUsize::default(), is_displaced: AtomicBool::default() }
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    pub(super) fn is_aside(&self) -> bool {
        self.state.lock().step == Step::Aside
    }

    /// Others need its place: the body ends with an error.
    pub(super) fn displace(&self) {
        self.is_displaced.store(true, Ordering::Release);
        let waker = self.state.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The answer begins, or nobody waits for it any more.
    pub(super) fn finish(&self) {
        let step = std::mem::replace(&mut self.state.lock().step, Step::Finished);
        if step == Step::UnderWay {
            self.budget.leave();
        }
    }

    /// The body makes its reader wait, who is to be woken when it is displaced.
    fn wait(self: &Arc<Self>, waker: &Waker) {
        let mut state = self.state.lock();
        state.waker = Some(waker.clone());
        if state.step == Step::UnderWay {
            state.step = Step::Aside;
            // Not under the ticket's lock: the budget looks at other tickets under its own.
            drop(state);
            self.budget.step_aside(self);
        }
    }

    /// Room for more of the body. It is held until nobody has to do with the request any more.
    fn hold(&self, bytes: usize) -> bool {
        let has_room = self.budget.hold(bytes);
        if has_room {
            self.held.fetch_add(bytes, Ordering::AcqRel);
        }
        has_room
    }

    /// The body is there.
    fn arrive(&self) {
        let mut state = self.state.lock();
        if state.step == Step::Aside {
            state.step = Step::UnderWay;
            self.budget.step_back();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.budget.release(*self.held.get_mut());
    }
}

/// Why a body does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::surface) enum Late {
    /// It took too long.
    Slow,
    /// It was slow, and others needed its place.
    Displaced,
    /// Too much is held of all bodies together.
    Large,
}

/// The error of a body. Its source is what a gRPC caller is told.
#[derive(Debug, thiserror::Error)]
#[error("{status}")]
struct ArrivalError {
    late: Late,
    #[source]
    status: Status,
}

impl From<Late> for ArrivalError {
    fn from(late: Late) -> Self {
        let status = match late {
            Late::Slow => Status::deadline_exceeded(late.detail()),
            Late::Displaced | Late::Large => overloaded(late.detail()),
        };
        Self { late, status }
    }
}

impl Late {
    /// Why a body failed, if it was for this.
    pub(in crate::surface) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<ArrivalError>() {
                return Some(error.late);
            }
            cause = error.source();
        }
        None
    }

    pub(in crate::surface) fn detail(self) -> String {
        match self {
            Self::Slow => format!("the body did not arrive within {} s", BODY_WITHIN.as_secs()),
            Self::Displaced => "the body arrived slowly, and others needed its place; try again".to_owned(),
            Self::Large => "too much is held of other requests to take this one; try again".to_owned(),
        }
    }
}

/// The body of a request that ends.
pub(in crate::surface) struct Arriving<B> {
    body: B,
    ticket: Arc<Ticket>,
    /// Since it was waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    bytes: usize,
}

impl<B> Arriving<B> {
    pub(in crate::surface) fn new(body: B, ticket: Arc<Ticket>) -> Self {
        Self { body, ticket, deadline: None, bytes: 0 }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Late> {
        let counted = |bytes: usize| bytes.saturating_sub(BODY_BYTES_FREE);
        let more = counted(self.bytes + bytes) - counted(self.bytes);
        self.bytes += bytes;
        if more > 0 && !self.ticket.hold(more) {
            self.ticket.budget.note(self.ticket.class);
            return Err(Late::Large);
        }
        Ok(())
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        self.ticket.wait(cx.waker());
        if self.ticket.is_displaced.load(Ordering::Acquire) {
            return Poll::Ready(Late::Displaced);
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(BODY_WITHIN)));
        deadline.as_mut().poll(cx).map(|()| Late::Slow)
    }
}

impl<B> Body for Arriving<B>
where
    B: Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Unpin,
{
    type Data = Bytes;
    type Error = tonic::codegen::StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::codegen::StdError>>> {
        let polled = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending => return self.poll_late(cx).map(|late| Some(Err(ArrivalError::from(late).into()))),
        };
        let is_over = !matches!(&polled, Some(Ok(frame)) if frame.is_data()) || self.body.is_end_stream();
        if is_over {
            self.ticket.arrive();
        }
        let frame = match polled {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.take(bytes).map(|()| frame).map_err(|late| ArrivalError::from(late).into())
            }
            Some(Err(error)) => Err(error.into()),
            None => return Poll::Ready(None),
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
