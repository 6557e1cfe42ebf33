//! A connector that connects once, and the state of its connection.

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use registry_core::BoxError;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;
use tower_service::Service;

/// How long sent data may stay unacknowledged before the connection is closed: 20 s, as gRPC has it
/// for its keepalive (gRFC A18). It needs no pings, which servers in Go refuse when they come more
/// often than every five minutes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether a connection is open, and what its tasks wait for.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    is_open: AtomicBool,
    lost: Notify,
    first_read: Notify,
}

impl ConnectionState {
    pub(crate) fn new() -> Self {
        Self { is_open: AtomicBool::new(true), lost: Notify::new(), first_read: Notify::new() }
    }

    /// Waits for the first bytes of the server: every HTTP/2 server begins with its settings. An
    /// accepted connection alone says nothing, since a system accepts it for a stopped process,
    /// too. For one task only.
    pub(crate) async fn wait_for_first_read(&self) {
        self.first_read.notified().await;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Waits until the connection is lost. For one task only.
    pub(crate) async fn wait_until_lost(&self) {
        self.lost.notified().await;
    }

    pub(crate) fn set_lost(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.lost.notify_one();
    }
}

/// The error of a request that was not sent, since its connection is lost.
#[derive(Debug, thiserror::Error)]
#[error("connection lost before the call was sent")]
pub(crate) struct ConnectionLost;

/// A connector that connects once. Else tonic's channel would reconnect when it is next used, and a
/// call would wait for that.
pub(crate) struct ConnectOnce {
    http: HttpConnector,
    state: Arc<ConnectionState>,
    is_used: bool,
}

impl ConnectOnce {
    /// A connector with the settings of `endpoint`, as tonic would connect.
    pub(crate) fn new(endpoint: &Endpoint, state: Arc<ConnectionState>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(endpoint.get_tcp_nodelay());
        http.set_keepalive(endpoint.get_tcp_keepalive());
        http.set_keepalive_interval(endpoint.get_tcp_keepalive_interval());
        http.set_keepalive_retries(endpoint.get_tcp_keepalive_retries());
        http.set_connect_timeout(endpoint.get_connect_timeout());
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        Self { http, state, is_used: false }
    }
}

impl Service<Uri> for ConnectOnce {
    type Response = TokioIo<MonitoredStream>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if self.is_used {
            // The server has sent GOAWAY or closed the connection, and it is noticed here first.
            self.state.set_lost();
            return Box::pin(async { Err(ConnectionLost.into()) });
        }
        self.is_used = true;
        let (connecting, state) = (self.http.call(uri), self.state.clone());
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            Ok(TokioIo::new(MonitoredStream { stream, state, has_read_any: false }))
        })
    }
}

/// A stream that sets its connection lost when it ends: the task of the connection drops it then.
#[derive(Debug)]
pub(crate) struct MonitoredStream {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    has_read_any: bool,
}

impl Drop for MonitoredStream {
    fn drop(&mut self) {
        self.state.set_lost();
    }
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, had_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let has_read = buffer.filled().len() > before;
        match &read {
            // The end. Calls in flight fail before the connection is dropped: meanwhile no call may
            // begin on it.
            Poll::Ready(Err(_)) => self.state.set_lost(),
            Poll::Ready(Ok(())) if had_room && !has_read => self.state.set_lost(),
            _ => {}
        }
        if has_read && !self.has_read_any {
            self.has_read_any = true;
            self.state.first_read.notify_one();
        }
        read
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
