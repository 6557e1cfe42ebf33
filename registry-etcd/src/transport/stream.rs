//! A byte stream that records received bytes.

use super::link::Link;
use super::problem::Problem;
use hyper_util::client::legacy::connect::{Connected, Connection};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A bidirectional byte stream.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection that records each read in its [`Link`], and fails if the first byte is not HTTP/2.
pub(super) struct MonitoredStream {
    stream: Box<dyn Duplex>,
    link: Arc<Link>,
    /// The problem to report if the server closes the connection before its first byte.
    closed: Problem,
    has_read: bool,
}

impl MonitoredStream {
    pub(super) fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        link: Arc<Link>,
        closed: Problem,
    ) -> Self {
        Self { stream: Box::new(stream), link, closed, has_read: false }
    }
}

impl MonitoredStream {
    /// Records the problem behind a failed read or write. A closed connection may show in either.
    fn record_failure(&self, error: &io::Error) {
        let closed = || (!self.has_read).then(|| self.closed.clone());
        if let Some(problem) = Problem::of_failure(error).or_else(closed) {
            self.link.set_problem(problem);
        }
    }
}

impl Connection for MonitoredStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, has_room) = (buffer.filled().len(), buffer.remaining() > 0);
        if let Err(error) = ready!(Pin::new(&mut *self.stream).poll_read(cx, buffer)) {
            self.record_failure(&error);
            return Poll::Ready(Err(error));
        }
        let read = buffer.filled().get(before..).unwrap_or_default();
        let problem = match read.first() {
            Some(_) if self.has_read => None,
            Some(first) => Problem::of_first_byte(*first),
            None => (has_room && !self.has_read).then(|| self.closed.clone()),
        };
        if !read.is_empty() {
            self.link.record_received(read.len());
            self.has_read = true;
        }
        match problem {
            None => Poll::Ready(Ok(())),
            Some(problem) => {
                self.link.set_problem(problem.clone());
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, problem)))
            }
        }
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write(cx, bytes));
        Poll::Ready(written.inspect_err(|error| self.record_failure(error)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut *self.stream).poll_flush(cx));
        Poll::Ready(flushed.inspect_err(|error| self.record_failure(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut *self.stream).poll_write_vectored(cx, buffers));
        Poll::Ready(written.inspect_err(|error| self.record_failure(error)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
