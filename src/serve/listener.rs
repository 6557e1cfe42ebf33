//! The listener of a server.

use super::Connection;
use futures_util::Stream;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

/// How long `accept` waits after an error such as too many open files. axum waits equally long.
const PAUSE: Duration = Duration::from_secs(1);

/// A TCP listener with the defaults that a server needs. [`serve`](super::serve) passes one to the server; for any
/// other server convert a `TcpListener` with `From`.
///
/// * Accepted connections have `TCP_NODELAY` set. tonic and axum do not set it, so a response may wait until the caller
///   acknowledges the previous one: the p99 latency of Go callers was 41 ms instead of 6 ms.
/// * Clients may send any `:authority`: see [`Connection`].
/// * An `accept` error is logged and does not stop the listener. It pauses for 1 s unless the error concerns a single
///   connection.
///
/// It is a [`Stream`] for tonic's `serve_with_incoming`, and with the feature `axum` a listener for `axum::serve`.
/// tonic handlers see the remote address as with tonic's own listener. For axum handlers, implement axum's
/// `Connected<IncomingStream<'_, Listener>>` on a type of your own.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Listener {
    /// Returns the local address of the listener.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Accepts the next connection. Cancel-safe: dropping the future loses no connection.
    pub async fn accept(&mut self) -> (Connection<TcpStream>, SocketAddr) {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(Connection<TcpStream>, SocketAddr)> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.inner.poll_accept(cx)) {
                Ok((stream, address)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "cannot set TCP_NODELAY"); // the client may be gone
                    }
                    return Poll::Ready((Connection::new(stream), address));
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections: retrying after a pause");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }

    /// Returns the inner `TcpListener`, for a server that accepts connections itself.
    pub fn into_inner(self) -> TcpListener {
        self.inner
    }
}

impl From<TcpListener> for Listener {
    fn from(inner: TcpListener) -> Self {
        Self { inner, pause: None }
    }
}

/// The accepted connections: the stream yields no errors and never ends.
impl Stream for Listener {
    type Item = io::Result<Connection<TcpStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_accept(cx).map(|(connection, _)| Some(Ok(connection)))
    }
}

#[cfg(feature = "axum")]
impl axum::serve::Listener for Listener {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}

/// Returns whether the error concerns a single connection, so that the next one can be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
