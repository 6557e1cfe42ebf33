//! A request that can be replayed on another endpoint.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// The longest frame that is kept for another attempt. Most requests are one such frame and can be
/// replayed. The size is small compared to a connection's buffers.
const MAX_REPLAY_BYTES: usize = 64 * 1024;

/// The header with the timeout of a call.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A request, with the part of its body that was read.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The original head, until the first attempt takes it.
    head: Option<Parts>,
    /// The parts of the head that further attempts need.
    uri: Uri,
    headers: HeaderMap,
    body: Arc<Mutex<ReplayBuffer>>,
}

#[derive(Debug)]
struct ReplayBuffer {
    /// The frame that was sent.
    sent: Option<Bytes>,
    /// Whether more was sent than `sent` holds.
    is_incomplete: bool,
    /// A frame that was read ahead and not sent yet.
    ahead: Option<Result<Frame<Bytes>, Status>>,
    /// The body has ended.
    is_ended: bool,
    rest: Body,
    /// The number of attempts. Only the body of the last attempt can be read.
    attempts: u32,
}

impl Replay {
    /// A request with these headers in addition, except for names that the request already has.
    pub(crate) fn new(request: Request<Body>, headers: &HeaderMap) -> Self {
        let (mut head, rest) = request.into_parts();
        for name in headers.keys() {
            if !head.headers.contains_key(name) {
                for value in headers.get_all(name) {
                    head.headers.append(name, value.clone());
                }
            }
        }
        let (uri, headers) = (head.uri.clone(), head.headers.clone());
        let buffer = ReplayBuffer::new(rest);
        Self { head: Some(head), uri, headers, body: Arc::new(Mutex::new(buffer)) }
    }

    /// Returns the request from its beginning. Reading the body of an earlier attempt fails from now on.
    pub(crate) fn attempt(&mut self) -> Request<Body> {
        let attempt = {
            let mut buffer = lock(&self.body);
            buffer.attempts += 1;
            buffer.attempts
        };
        let body = Body::new(ReplayBody { body: self.body.clone(), attempt, has_read: false });
        if let Some(head) = self.head.take() {
            return Request::from_parts(head, body);
        }
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST; // the method of every gRPC call
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Returns whether everything that was sent can be sent again.
    pub(crate) fn is_replayable(&self) -> bool {
        !lock(&self.body).is_incomplete
    }

    /// Returns the timeout in the header: a number of up to 8 digits and a unit, according to gRPC's
    /// `doc/PROTOCOL-HTTP2.md`. `None` if it is missing or invalid.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let text = self.headers.get(&TIMEOUT)?.to_str().ok()?;
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

    /// Writes the timeout into the header, in the finest unit in which it has at most 8 digits.
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        const MAX: u128 = 99_999_999;
        let counts = [
            (timeout.as_micros(), 'u'),
            (timeout.as_millis(), 'm'),
            (timeout.as_secs().into(), 'S'),
        ];
        let (count, unit) =
            counts.into_iter().find(|(count, _)| *count <= MAX).unwrap_or((MAX, 'S'));
        if let Ok(value) = HeaderValue::try_from(format!("{count}{unit}")) {
            if let Some(head) = &mut self.head {
                head.headers.insert(TIMEOUT, value.clone());
            }
            self.headers.insert(TIMEOUT, value);
        }
    }
}

impl ReplayBuffer {
    fn new(rest: Body) -> Self {
        Self { sent: None, is_incomplete: false, ahead: None, is_ended: false, rest, attempts: 0 }
    }

    /// Returns the next frame of the original body.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Some(frame));
        }
        if self.is_ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(cx));
        self.is_ended = frame.is_none();
        Poll::Ready(frame)
    }

    /// Reads the next frame if it is ready. If the body turns out to have ended, the last message is sent
    /// with `END_STREAM`, which saves an empty frame after it.
    fn look_ahead(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(frame) = self.poll(cx) {
            self.ahead = frame;
        }
    }
}

/// The body of one attempt.
struct ReplayBody {
    body: Arc<Mutex<ReplayBuffer>>,
    /// The number of this attempt, from 1.
    attempt: u32,
    /// Whether this attempt has read the first frame.
    has_read: bool,
}

impl HttpBody for ReplayBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, attempt, has_read } = self.get_mut();
        let mut buffer = lock(body);
        if buffer.attempts != *attempt {
            return Poll::Ready(Some(Err(Status::cancelled(
                "the call was retried on another endpoint",
            ))));
        }
        if let Some(bytes) = buffer.sent.as_ref().filter(|_| !*has_read) {
            *has_read = true;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        let frame = ready!(buffer.poll(cx));
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            buffer.is_incomplete |= *has_read || bytes.len() > MAX_REPLAY_BYTES;
            buffer.sent = (!buffer.is_incomplete).then(|| bytes.clone());
            *has_read = true;
            buffer.look_ahead(cx);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let buffer = lock(&self.body);
        let is_ended = buffer.is_ended || buffer.rest.is_end_stream();
        (self.has_read || buffer.sent.is_none()) && buffer.ahead.is_none() && is_ended
    }

    /// No hint, like tonic's own body: gRPC frames messages by their own length.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn lock(buffer: &Mutex<ReplayBuffer>) -> MutexGuard<'_, ReplayBuffer> {
    buffer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, StreamExt, stream};
    use std::future::poll_fn;

    fn replay(frames: &[&'static [u8]]) -> Replay {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::from_static(frame)).collect();
        let frames = stream::iter(frames).map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
        Replay::new(Request::new(Body::new(Framed(frames.boxed()))), &HeaderMap::new())
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
    fn request_of_one_message_can_be_replayed_wherever_the_last_attempt_stopped() {
        let mut replay = replay(&[b"a"]);
        let mut first = replay.attempt();
        assert_eq!(next(&mut first).unwrap().unwrap(), "a");
        let mut second = replay.attempt();
        assert!(next(&mut first).unwrap().is_err(), "the body of an earlier attempt fails");
        assert_eq!(rest(&mut second), b"a");
        assert_eq!(rest(&mut replay.attempt()), b"a");
        assert!(replay.is_replayable());
    }

    #[test]
    fn last_message_is_sent_with_the_end_of_the_stream() {
        let mut replay = replay(&[b"a"]);
        for _ in 0..2 {
            let mut request = replay.attempt();
            assert!(!request.body().is_end_stream());
            assert_eq!(next(&mut request).unwrap().unwrap(), "a");
            assert!(request.body().is_end_stream());
        }
        let mut stream = self::replay(&[b"a", b"b"]).attempt();
        next(&mut stream);
        assert!(!stream.body().is_end_stream());
        next(&mut stream);
        assert!(stream.body().is_end_stream());
    }

    #[test]
    fn every_attempt_sends_the_same_request() {
        let request = Request::builder().method("POST").version(Version::HTTP_2);
        let request = request.uri("http://h/a.B/C?d").header("x", "1").header("x", "2");
        let request = request.body(Body::empty()).unwrap();
        let ours = HeaderMap::from_iter([("x", "3"), ("y", "4")].map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        }));
        let mut replay = Replay::new(request, &ours);
        let (first, second) = (replay.attempt(), replay.attempt());
        for request in [&first, &second] {
            let values = |name| Vec::from_iter(request.headers().get_all(name));
            assert_eq!(values("x"), ["1", "2"]);
            assert_eq!(values("y"), ["4"]);
        }
        assert_eq!(first.uri(), second.uri());
        assert_eq!((first.method(), first.version()), (second.method(), second.version()));
    }

    #[test]
    fn long_message_and_stream_are_not_replayable() {
        static LONG: [u8; 70 * 1024] = [7; 70 * 1024];
        let frames: [&[&'static [u8]]; 2] = [&[&LONG], &[b"a", b"b", b"c"]];
        for frames in frames {
            let mut replay = replay(frames);
            assert_eq!(rest(&mut replay.attempt()), frames.concat());
            assert!(!replay.is_replayable());
        }
    }

    #[test]
    fn timeout_is_read_from_its_header_and_written_to_it() {
        let with = |text: &str| {
            let request = Request::builder().header(TIMEOUT, text);
            Replay::new(request.body(Body::empty()).unwrap(), &HeaderMap::new())
        };
        assert_eq!(with("2S").timeout(), Some(Duration::from_secs(2)));
        assert_eq!(with("150m").timeout(), Some(Duration::from_millis(150)));
        assert_eq!(with("99999999H").timeout(), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "-1S", "1", "1x", "100000000S", "1.5S"] {
            assert_eq!(with(wrong).timeout(), None, "{wrong}");
        }
        let mut request = Replay::new(Request::new(Body::empty()), &HeaderMap::new());
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
