//! A request that can be sent once more, for as long as no server has looked at it.

use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// What was sent of a request is kept up to so many bytes: enough for most that are not streams, and little
/// beside what a connection buffers.
const KEPT: usize = 64 * 1024;

/// The header in which a caller says how long the call has.
const TIMEOUT: &str = "grpc-timeout";

/// A request, and what was read of its body.
#[derive(Debug)]
pub(crate) struct Replay {
    head: Parts,
    body: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    /// What was read, if that is all there was to read.
    sent: Vec<Bytes>,
    len: usize,
    /// More was read than is kept.
    is_lost: bool,
    rest: Body,
    /// How many times it was handed out. Who reads for an older one has nothing to say any more.
    times: u32,
}

impl Replay {
    pub(crate) fn new(request: Request<Body>) -> Self {
        let (head, rest) = request.into_parts();
        let kept = Kept { sent: Vec::new(), len: 0, is_lost: false, rest, times: 0 };
        Self { head, body: Arc::new(Mutex::new(kept)) }
    }

    /// The request, from its beginning.
    pub(crate) fn request(&self) -> Request<Body> {
        let times = {
            let mut kept = lock(&self.body);
            kept.times += 1;
            kept.times
        };
        let lent = Lent { body: self.body.clone(), times, at: 0 };
        Request::from_parts(self.head.clone(), Body::new(lent))
    }

    /// Whether all that was sent of it can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        !lock(&self.body).is_lost
    }

    /// How long the call has, as its caller says: a number of up to 8 digits and a unit (gRPC's
    /// `doc/PROTOCOL-HTTP2.md`).
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let text = self.head.headers.get(TIMEOUT)?.to_str().ok()?;
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let count: u64 = count.parse().ok().filter(|count| *count < 100_000_000)?;
        match unit {
            "H" => Some(Duration::from_secs(count * 3600)),
            "M" => Some(Duration::from_secs(count * 60)),
            "S" => Some(Duration::from_secs(count)),
            "m" => Some(Duration::from_millis(count)),
            "u" => Some(Duration::from_micros(count)),
            "n" => Some(Duration::from_nanos(count)),
            _ => None,
        }
    }

    /// Says how long the call has: in the finest unit in which that is a number of 8 digits.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        const MOST: u128 = 99_999_999;
        let counts = [
            (timeout.as_micros(), 'u'),
            (timeout.as_millis(), 'm'),
            (timeout.as_secs().into(), 'S'),
        ];
        let (count, unit) =
            counts.into_iter().find(|(count, _)| *count <= MOST).unwrap_or((MOST, 'S'));
        if let Ok(value) = HeaderValue::try_from(format!("{count}{unit}")) {
            self.head.headers.insert(TIMEOUT, value);
        }
    }

    /// Adds headers of names that it has none of.
    pub(crate) fn add_headers(&mut self, headers: &http::HeaderMap) {
        for name in headers.keys() {
            if !self.head.headers.contains_key(name) {
                for value in headers.get_all(name) {
                    self.head.headers.append(name, value.clone());
                }
            }
        }
    }
}

/// The body of a request that was handed out.
struct Lent {
    body: Arc<Mutex<Kept>>,
    /// Which time that was.
    times: u32,
    /// How much of what is kept it has read.
    at: usize,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let (body, at) = (self.body.clone(), self.at);
        let mut kept = lock(&body);
        if kept.times != self.times {
            return Poll::Ready(Some(Err(Status::cancelled("it was given to another endpoint"))));
        }
        if let Some(bytes) = kept.sent.get(at) {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        let frame = ready!(Pin::new(&mut kept.rest).poll_frame(cx));
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            kept.len = kept.len.saturating_add(bytes.len());
            if kept.len > KEPT {
                kept.is_lost = true;
                kept.sent.clear();
                self.at = 0;
            } else {
                kept.sent.push(bytes.clone());
                self.at += 1;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = lock(&self.body);
        self.at == kept.sent.len() && kept.rest.is_end_stream()
    }

    /// As tonic's own: a message says its length itself.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt, stream};
    use std::future::poll_fn;

    fn replay(frames: &[&'static [u8]]) -> Replay {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
        let frames = stream::iter(frames).map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
        Replay::new(Request::new(Body::new(Framed(frames.boxed()))))
    }

    struct Framed(stream::BoxStream<'static, Result<Frame<Bytes>, Status>>);

    impl HttpBody for Framed {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_next_unpin(cx)
        }
    }

    fn next(request: &mut Request<Body>) -> Option<Result<Bytes, Status>> {
        let frame = poll_fn(|cx| Pin::new(request.body_mut()).poll_frame(cx)).now_or_never();
        frame.unwrap().map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    fn rest(request: &mut Request<Body>) -> Vec<u8> {
        std::iter::from_fn(|| next(request)).flat_map(|bytes| bytes.unwrap()).collect()
    }

    #[test]
    fn a_request_can_be_read_again_wherever_its_reader_had_come_to() {
        let replay = replay(&[b"a", b"b", b"c"]);
        let mut first = replay.request();
        assert_eq!(next(&mut first).unwrap().unwrap(), "a");
        let mut second = replay.request();
        assert!(next(&mut first).unwrap().is_err(), "the older one is over");
        assert_eq!(next(&mut second).unwrap().unwrap(), "a");
        assert_eq!(rest(&mut second), b"bc");
        assert_eq!(rest(&mut replay.request()), b"abc");
        assert!(replay.is_whole());
    }

    #[test]
    fn what_is_too_long_to_keep_is_read_once() {
        static LONG: [u8; 40 * 1024] = [7; 40 * 1024];
        let replay = replay(&[&LONG, &LONG, b"end"]);
        assert_eq!(rest(&mut replay.request()).len(), 2 * LONG.len() + 3);
        assert!(!replay.is_whole());
    }

    #[test]
    fn the_time_of_a_call_is_read_from_its_header_and_written_to_it() {
        let with = |text: &str| {
            let request = Request::builder().header(TIMEOUT, text);
            Replay::new(request.body(Body::empty()).unwrap())
        };
        assert_eq!(with("2S").timeout(), Some(Duration::from_secs(2)));
        assert_eq!(with("150m").timeout(), Some(Duration::from_millis(150)));
        assert_eq!(with("99999999H").timeout(), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "-1S", "1", "1x", "100000000S", "1.5S"] {
            assert_eq!(with(wrong).timeout(), None, "{wrong}");
        }
        let mut request = Replay::new(Request::new(Body::empty()));
        assert_eq!(request.timeout(), None);
        for (duration, read) in [
            (Duration::from_nanos(1_999), Duration::from_micros(1)),
            (Duration::from_secs(99), Duration::from_secs(99)),
            (Duration::from_millis(123_456_789), Duration::from_secs(123_456)),
            (Duration::MAX, Duration::from_secs(99_999_999)),
        ] {
            request.set_timeout(duration);
            assert_eq!(request.timeout(), Some(read));
        }
    }
}
