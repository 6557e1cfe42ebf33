//! The body of a response. Its trailers state the outcome of the call.

use crate::call::Call;
use crate::status::FailureCause;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// The body of a response over a [`Channel`](crate::Channel).
///
/// The call is in flight until the body is read to its end or dropped. Reading fails at the deadline
/// of the call, and if the server ends the response without a status.
#[derive(Debug)]
pub struct ResponseBody {
    body: Body,
    /// `None` once the outcome is known.
    call: Option<Call>,
    /// `None` once the body has ended.
    deadline: Option<Instant>,
    /// Created when the body is first pending: a short body rarely needs a timer.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    pub(crate) fn new(body: Body, call: Option<Call>, deadline: Option<Instant>) -> Self {
        Self { body, call, deadline, sleep: None }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        sleep.as_mut().poll(cx)
    }

    /// Drops the body, which cancels the call at the server, and returns the status of the call.
    fn time_out(&mut self) -> Status {
        self.body = Body::empty();
        (self.deadline, self.sleep) = (None, None);
        let timed_out = || Status::deadline_exceeded("the deadline of the call has passed");
        self.call.take().map_or_else(timed_out, Call::timed_out)
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            ready!(this.poll_deadline(cx));
            return Poll::Ready(Some(Err(this.time_out())));
        };
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            // A server that sends without a pause must not outlast the deadline.
            let is_late = this.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            return Poll::Ready(if is_late { Some(Err(this.time_out())) } else { frame });
        }
        // Trailers, an error, or the end of the body: the call has ended.
        (this.deadline, this.sleep) = (None, None);
        let Some(call) = this.call.take() else { return Poll::Ready(frame) };
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(call.ended(frame.trailers_ref()).map(|()| frame)),
            Some(Err(error)) => {
                let cause = FailureCause::from_error(&error);
                Some(Err(call.failed(cause, error.into())))
            }
            None => call.ended(None).err().map(Err),
        })
    }

    /// Returns false until the outcome is known, so that the client reads a response without a status to
    /// its end and gets the error.
    fn is_end_stream(&self) -> bool {
        self.call.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};
    use http::HeaderMap;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::time::{advance, timeout};
    use tonic::Code;

    const LIMIT: Duration = Duration::from_secs(1);

    /// A body that yields these frames and then stays pending.
    struct Frames(stream::BoxStream<'static, Frame<Bytes>>);

    impl HttpBody for Frames {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_next_unpin(cx).map(|frame| frame.map(Ok))
        }
    }

    fn body(frames: Vec<Frame<Bytes>>) -> ResponseBody {
        let frames = stream::iter(frames).chain(stream::pending());
        ResponseBody::new(Body::new(Frames(frames.boxed())), None, Some(Instant::now() + LIMIT))
    }

    fn data() -> Frame<Bytes> {
        Frame::data(Bytes::from_static(b"a"))
    }

    async fn next(body: &mut ResponseBody) -> Option<Result<Frame<Bytes>, Status>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        timeout(60 * LIMIT, frame).await.expect("the body outlasts its deadline")
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_body_fails_at_the_deadline() {
        let mut body = body(vec![data()]);
        let begun = Instant::now();
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        let status = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!((status.code(), begun.elapsed()), (Code::DeadlineExceeded, LIMIT));
        assert!(next(&mut body).await.is_none() && body.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_is_always_ready_fails_at_the_deadline() {
        let mut body = body(vec![data(), data()]);
        assert!(next(&mut body).await.unwrap().is_ok());
        advance(LIMIT).await;
        assert_eq!(next(&mut body).await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_that_have_arrived_are_read_after_the_deadline() {
        let mut body = body(vec![Frame::trailers(HeaderMap::new())]);
        advance(2 * LIMIT).await;
        assert!(next(&mut body).await.unwrap().unwrap().is_trailers());
    }
}
