//! The body of a response, whose end is the outcome of its call.

use crate::call::Call;
use crate::status::FailureCause;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// The body of a response that came through a [`Channel`](crate::Channel).
///
/// The call counts as in flight until the body was read to its end or is dropped.
#[derive(Debug)]
pub struct ResponseBody {
    body: Body,
    /// Until its outcome is known.
    call: Option<Call>,
}

impl ResponseBody {
    pub(crate) fn new(body: Body, call: Option<Call>) -> Self {
        Self { body, call }
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
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            return Poll::Ready(frame);
        }
        // The call has ended, one way or the other.
        let Some(call) = self.call.take() else { return Poll::Ready(frame) };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                call.ended(frame.trailers_ref());
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let cause = FailureCause::from_error(&error);
                Some(Err(call.failed(cause, error.into())))
            }
            None => {
                call.ended(None);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
