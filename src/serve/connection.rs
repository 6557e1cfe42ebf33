//! An accepted connection.

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

/// How long a client may take to complete its preface, or the frames of a header block.
/// hyper gives the headers of an HTTP/1.1 request as long.
const LIMIT: Duration = Duration::from_secs(30);

/// An accepted connection whose client may send any `:authority`.
///
/// The `h2` crate, below tonic and axum, resets a stream whose `:authority` is not one by RFC 3986, and
/// gRPC clients in Go send such: the hosts of their target with a comma between, or a path in which
/// `/` is escaped. In HTTP/2 requests that are read from here every `:authority` is valid: in one that is refused
/// each byte but letters, digits, `-._~!$&'()*+,;=` is replaced by `-`. A valid one passes unchanged,
/// as does everything else: HTTP/1.1, TLS, whatever is malformed, and what is written.
///
/// For TLS it stands above the TLS stream: `Connection::new(tls_acceptor.accept(stream).await?)`.
/// tonic's own `tls_config` decrypts above it, where nothing is repaired.
///
/// Two are not repaired: an empty `:authority`, and one whose name is an index of
/// HPACK's dynamic table, which no known client sends. A header block of more than 64 KiB passes as it is.
///
/// # Errors
///
/// A read fails with `TimedOut` if a client takes longer than 30 s to complete the preface that
/// it began, or a header block. At most those 64 KiB of it are held. All other deadlines are the server's.
///
/// # Panics
///
/// Where a client may have to be waited for outside of a tokio runtime with time.
#[derive(Debug)]
pub struct Connection<T> {
    io: T,
    repair: Repair,
    /// What was read and did not fit, and then what is not complete.
    held: Vec<u8>,
    /// So many bytes of that are for the server.
    ready: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<T> Connection<T> {
    /// Wraps a connection from which nothing was read yet.
    pub fn new(io: T) -> Self {
        Self { io, repair: Repair::new(), held: Vec::new(), ready: 0, deadline: None }
    }

    /// What is wrapped. Nothing may be read from it.
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// What is wrapped. Nothing may be read from it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Waits for more, as long as a client may take.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() && !self.repair.is_in_preface() {
            return Poll::Pending;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(LIMIT)));
        ready!(deadline.as_mut().poll(cx));
        let message = format!("a header block did not arrive in time, within=`{LIMIT:?}`");
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
                this.ready = this.held.len(); // it ends in a frame
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
            this.held = Vec::new(); // most connections never need it again
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

/// tonic's handlers see the same of the connection, such as its remote address.
#[cfg(feature = "grpc")]
impl<T: tonic::transport::server::Connected> tonic::transport::server::Connected for Connection<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> T::ConnectInfo {
        self.io.connect_info()
    }
}
