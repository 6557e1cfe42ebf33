//! One TCP connection that is never replaced in secret, and says when it is lost.

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

/// For how long what was sent may go unacknowledged until the connection is given up. 20 s, as gRPC
/// has it for its keepalive (gRFC A18). It needs no pings, which servers in Go refuse when they
/// come more often than every five minutes.
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Whether a connection stands.
#[derive(Debug)]
pub(crate) struct Link {
    is_open: AtomicBool,
    lost: Notify,
    heard: Notify,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { is_open: AtomicBool::new(true), lost: Notify::new(), heard: Notify::new() }
    }

    /// Waits until the peer has said anything: every HTTP/2 server begins by stating its settings. A system
    /// accepts connections for a process that stands still, too. For one task only.
    pub(crate) async fn heard(&self) {
        self.heard.notified().await;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Waits until it is lost. For one task only.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }

    pub(crate) fn lose(&self) {
        self.is_open.store(false, Ordering::Relaxed);
        self.lost.notify_one();
    }
}

/// The connection is gone, and what was to be sent on it was not.
#[derive(Debug, thiserror::Error)]
#[error("the connection is gone")]
pub(crate) struct Gone;

/// Connects once. tonic's channel would connect again when it is next used, and the call that finds out
/// would wait for it.
pub(crate) struct ConnectOnce {
    http: HttpConnector,
    link: Arc<Link>,
    is_used: bool,
}

impl ConnectOnce {
    /// With the settings of `endpoint`, as tonic would connect.
    pub(crate) fn new(endpoint: &Endpoint, link: Arc<Link>) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(endpoint.get_tcp_nodelay());
        http.set_keepalive(endpoint.get_tcp_keepalive());
        http.set_keepalive_interval(endpoint.get_tcp_keepalive_interval());
        http.set_keepalive_retries(endpoint.get_tcp_keepalive_retries());
        http.set_connect_timeout(endpoint.get_connect_timeout());
        #[cfg(target_os = "linux")]
        http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        Self { http, link, is_used: false }
    }
}

impl Service<Uri> for ConnectOnce {
    type Response = TokioIo<Watched>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if self.is_used {
            // The peer said goodbye, or has hung up: it may have been noticed here first.
            self.link.lose();
            return Box::pin(async { Err(Gone.into()) });
        }
        self.is_used = true;
        let (connecting, link) = (self.http.call(uri), self.link.clone());
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            Ok(TokioIo::new(Watched { stream, link, is_heard: false }))
        })
    }
}

/// A stream whose end is noticed: whoever drives the connection drops it then.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    link: Arc<Link>,
    is_heard: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.link.lose();
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, had_room) = (buffer.filled().len(), buffer.remaining() > 0);
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let has_read = buffer.filled().len() > before;
        match &read {
            // The end. Those under way hear of it from whoever reads, before the connection is dropped:
            // meanwhile nobody is to begin a call on it.
            Poll::Ready(Err(_)) => self.link.lose(),
            Poll::Ready(Ok(())) if had_room && !has_read => self.link.lose(),
            _ => {}
        }
        if has_read && !self.is_heard {
            self.is_heard = true;
            self.link.heard.notify_one();
        }
        read
    }
}

impl AsyncWrite for Watched {
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
