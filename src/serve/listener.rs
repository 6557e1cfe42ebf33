//! Accepting connections.

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

/// How long it waits if the system cannot accept, since it has no more files, say. As long as axum waits.
const PAUSE: Duration = Duration::from_secs(1);

/// A TCP listener as a server needs it. [`serve`](super::serve) hands it out; any other server makes it
/// from its own `TcpListener`, with `From`.
///
/// * Accepted connections have `TCP_NODELAY`. tonic and axum leave it off, and then a response may wait until the
///   caller acknowledges the previous one: the p99 of callers in Go was 41 ms instead of 6 ms.
/// * Clients may send any `:authority`: [`Connection`].
/// * An error of `accept` ends nothing. It is logged, and waits for a second unless it concerns one
///   connection only.
///
/// It is a [`Stream`] for tonic's `serve_with_incoming`, and with the feature `axum` a listener for
/// `axum::serve`. Handlers of tonic see the remote address as with tonic's own listener. For handlers of axum
/// a type of yours implements axum's `Connected<IncomingStream<'_, Listener>>`.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Listener {
    /// The address that it listens on.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Accepts the next connection. If this future is dropped, none is lost.
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
                        tracing::debug!(%error, "TCP_NODELAY cannot be set"); // the client may be gone
                    }
                    return Poll::Ready((Connection::new(stream), address));
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
                }
            }
        }
    }

    /// The listener inside, for a server that accepts by itself.
    pub fn into_inner(self) -> TcpListener {
        self.inner
    }
}

impl From<TcpListener> for Listener {
    fn from(inner: TcpListener) -> Self {
        Self { inner, pause: None }
    }
}

/// The accepted connections. It yields no error, and has no end.
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

/// Whether the next connection can be accepted at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
