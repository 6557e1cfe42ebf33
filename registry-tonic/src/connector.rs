//! A connector that connects only once, and the state of its connection.

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

/// How long sent data may stay unacknowledged before the connection is closed: gRPC's default for
/// its keepalive (gRFC A18). Unlike HTTP/2 pings, servers in Go cannot refuse it.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether a connection is open, with notifications of its first read and its loss.
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

    /// Waits for the first bytes of the server: every HTTP/2 server sends its settings first. An
    /// accepted connection is not enough, since the kernel accepts connections for a stopped process,
    /// too. Only one task may wait.
    pub(crate) async fn wait_for_first_read(&self) {
        self.first_read.notified().await;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Waits until the connection is lost. Only one task may wait.
    pub(crate) async fn wait_until_lost(&self) {
        self.lost.notified().await;
    }

    pub(crate) fn set_lost(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.lost.notify_one();
    }
}

/// The error of a request whose connection was lost before it was sent.
#[derive(Debug, thiserror::Error)]
#[error("connection lost before the call was sent")]
pub(crate) struct ConnectionLost;

/// A connector that connects only once. Otherwise tonic's channel would reconnect on its next use, and
/// a call would wait for that.
pub(crate) struct ConnectOnce {
    http: HttpConnector,
    state: Arc<ConnectionState>,
    is_used: bool,
}

impl ConnectOnce {
    /// A connector with the TCP settings of `endpoint`, as tonic's own connector applies them.
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
            // tonic reconnects since the server sent GOAWAY or closed the connection.
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

/// A stream that marks its connection as lost at its end, at an error, and when it is dropped.
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
            // The stream has ended. Mark the connection before hyper drops it: no new call may begin
            // on it in the meantime.
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
