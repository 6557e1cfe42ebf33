//! Connections to a server, and their traffic.

use super::reply_meter::ReplyMeter;
use crate::error::StoreError;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A connection to a server. Dropping it closes it and ends its calls in flight.
#[derive(Debug)]
pub(crate) struct Link {
    connection: MultiplexedConnection,
    traffic: Arc<Traffic>,
    driver: AbortHandle,
}

/// The received data of a connection.
#[derive(Debug)]
pub(crate) struct Traffic {
    opened: Instant,
    /// When bytes were last received, in microseconds after `opened`.
    received: AtomicU64,
    is_closed: AtomicBool,
    /// The received data that ended the connection.
    failure: OnceLock<StoreError>,
}

impl Link {
    /// Makes a connection over `stream`, driven by the current runtime.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        traffic: Arc<Traffic>,
    ) -> Result<Self, RedisError> {
        // The redis crate's default response timeout of 500 ms would end every blocking read, and leave the
        // connection to a server that still blocks.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let metered = Metered { stream, meter: ReplyMeter::new(), traffic: traffic.clone() };
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&info, metered, config).await?;
        // Dropped with the task, even when its runtime shuts down.
        let guard = CloseGuard(traffic.clone());
        let driver = tokio::spawn(async move {
            driver.await;
            drop(guard);
        });
        Ok(Self { connection, traffic, driver: driver.abort_handle() })
    }

    /// Returns a handle for requests. It must not outlive the connection.
    pub(crate) fn requests(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self {
            opened: Instant::now(),
            received: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// Returns when bytes were last received, of any reply.
    pub(crate) fn received(&self) -> Instant {
        self.opened + Duration::from_micros(self.received.load(Ordering::Relaxed))
    }

    /// Returns whether the connection has ended, including by the shutdown of its runtime.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    pub(super) fn has_received(&self) -> bool {
        self.received.load(Ordering::Relaxed) > 0
    }

    /// Returns why the connection ended, if `error` is its symptom in a call.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        match self.failure.get() {
            Some(failure) if error.is_io() => failure.clone(),
            _ => error,
        }
    }

    pub(crate) fn record_received(&self) {
        let micros = u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        self.received.store(micros, Ordering::Relaxed);
    }
}

struct CloseGuard(Arc<Traffic>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Relaxed);
    }
}

/// A stream that meters replies.
struct Metered<S> {
    stream: S,
    meter: ReplyMeter,
    traffic: Arc<Traffic>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        #[cfg(feature = "tls")]
        if let Some(refusal) = outcome.as_ref().err().and_then(super::tls::refusal) {
            let _ = self.traffic.failure.set(refusal);
        }
        outcome?;
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            self.traffic.record_received();
        }
        if let Err(violation) = self.meter.take(bytes) {
            let _ = self.traffic.failure.set(StoreError::Protocol(violation.clone()));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
