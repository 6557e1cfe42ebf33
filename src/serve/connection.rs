//! An accepted connection whose requests get a valid `:authority`.

mod block;
#[cfg(any(test, fuzzing))]
mod check;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod huffman;
mod repair;
#[cfg(test)]
mod tests;

use self::repair::Repair;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may take to complete its preface or the frames of a header block. hyper has the same limit for the
/// headers of an HTTP/1.1 request.
const LIMIT: Duration = Duration::from_secs(30);

/// An accepted connection that repairs invalid `:authority` headers.
///
/// The `h2` crate, below tonic and axum, resets a stream whose `:authority` is invalid by RFC 3986. gRPC clients in Go
/// send such values: the hosts of their target joined by commas, or a path with an escaped `/`. In HTTP/2 requests that
/// are read through this type, each byte of an invalid `:authority` other than letters, digits and `-._~!$&'()*+,;=` is
/// replaced by `-`. Everything else passes unchanged: valid values, HTTP/1.1, TLS, malformed input, and all writes.
///
/// With TLS, wrap the decrypted stream: `Connection::new(tls_acceptor.accept(stream).await?)`. tonic's own `tls_config`
/// decrypts above this type, so nothing is repaired there.
///
/// Two kinds of `:authority` are not repaired: an empty one, and one whose name is an index into HPACK's dynamic table,
/// which no known client sends. A header block of more than 64 KiB passes unchanged.
///
/// # Errors
///
/// A read fails with `TimedOut` if a client takes longer than 30 s to complete a preface or a header block that it has
/// begun. At most 64 KiB of a header block and one read are buffered. All other deadlines are up to the server.
///
/// # Panics
///
/// A read outside of a tokio runtime with time panics if it must wait for the rest of a preface or a header block.
#[derive(Debug)]
pub struct Connection<T> {
    io: T,
    repair: Repair,
    /// Bytes that did not fit the reader's buffer, followed by an incomplete frame or header block.
    held: Vec<u8>,
    /// The number of bytes at the front of `held` that the reader may take.
    ready: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T> Connection<T> {
    /// Wraps a connection from which nothing has been read yet.
    pub fn new(io: T) -> Self {
        Self { io, repair: Repair::new(), held: Vec::new(), ready: 0, deadline: None }
    }

    /// Returns the wrapped connection. Do not read from it.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Returns the wrapped connection. Do not read from it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Waits for more bytes, up to the deadline if a preface or a header block is incomplete.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && !self.repair.is_in_preface() {
            return Poll::Pending;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(LIMIT)));
        ready!(deadline.as_mut().poll(cx));
        let message = format!(
            "the client did not complete its preface or a header block in time, timeout=`{LIMIT:?}`"
        );
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        while this.ready == 0 {
            let Poll::Ready(read) = Pin::new(&mut this.io).poll_read(cx, buf) else {
                return this.poll_limit(cx);
            };
            read?;
            let read = &mut buf.filled_mut()[before..];
            if read.is_empty() {
                this.ready = this.held.len(); // the stream ended within a frame: pass it as it is
                break;
            }
            let ready = if this.held.is_empty() {
                let division = this.repair.repair(read);
                this.held.extend_from_slice(&read[read.len() - division.rest..]);
                buf.set_filled(before + division.ready);
                division.ready
            } else {
                this.held.extend_from_slice(read);
                buf.set_filled(before);
                let division = this.repair.repair(&mut this.held);
                this.held.drain(division.ready..this.held.len() - division.rest);
                this.ready = division.ready;
                division.ready
            };
            if ready > 0 && !this.repair.is_in_preface() {
                this.deadline = None;
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        let next = this.ready.min(buf.remaining());
        buf.put_slice(&this.held[..next]);
        this.held.drain(..next);
        this.ready -= next;
        if this.held.is_empty() {
            this.held = Vec::new(); // frees the memory: most connections never need the buffer again
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// Passes on the connection info, such as the remote address, to tonic's handlers.
#[cfg(feature = "grpc")]
impl<T: tonic::transport::server::Connected> tonic::transport::server::Connected for Connection<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> T::ConnectInfo {
        self.io.connect_info()
    }
}
