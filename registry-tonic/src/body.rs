//! The bodies of calls: those that are sent can be taken back until they are read, those that are
//! received tell what came of the call.

use crate::call::Call;
use crate::status;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// Where the body of a call lies until it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Slot(Arc<Mutex<Option<Body>>>);

impl Slot {
    /// Whether nothing of it was sent.
    pub(crate) fn is_full(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body that is taken out of its slot when it is first read. A call that was never sent leaves it
/// there, for the next endpoint.
#[derive(Debug)]
pub(crate) struct Lent {
    slot: Slot,
    body: Option<Body>,
}

impl Lent {
    pub(crate) fn slot(body: Body) -> Slot {
        Slot(Arc::new(Mutex::new(Some(body))))
    }

    pub(crate) fn new(slot: &Slot) -> Self {
        Self { slot: slot.clone(), body: None }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.body.is_none() {
            self.body = self.slot.take();
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None), // a newer try has it
        }
    }

    /// Of a body that was not looked at yet, it is not known.
    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

/// The body of an answer that came through a [`Channel`](crate::Channel).
///
/// The call counts as under way until it was read to its end, or is dropped.
#[derive(Debug)]
pub struct ResponseBody {
    body: Body,
    /// Until it is over.
    call: Option<Call>,
}

impl ResponseBody {
    pub(crate) fn new(body: Body, call: Call) -> Self {
        Self { body, call: Some(call) }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let frame = frame.map(|frame| frame.map_err(|error| status::of(error.into())));
        let Some(call) = &self.call else { return Poll::Ready(frame) };
        let is_over = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(|trailers| call.judge(trailers)).is_some(),
            Some(Err(error)) => {
                call.conclude(error.code());
                true
            }
            None => true,
        };
        if is_over {
            self.call = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
