//! Calls of a store, with a timeout and with protection against panics.

use futures_util::FutureExt;
use registry_core::{CallOptions, Error, ErrorKind, Result};
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::timeout;

/// Awaits `request` with the timeout `limit`. `name` is its name in errors. Pass an async block that makes the call, so
/// that a panic before the store returns its future is caught too.
///
/// # Errors
///
/// Those of the request; `Unavailable` after `limit`; `Internal` if the store panics.
pub(crate) async fn call<T>(
    name: &str,
    limit: Duration,
    request: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(limit, contained(name, request)).await.unwrap_or_else(|_| {
        let message = format!("the store did not answer, call=`{name}`, timeout=`{limit:?}`");
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}

/// Returns the answer to `request`, or `Internal` if the store panics.
pub(crate) async fn contained<T>(
    name: &str,
    request: impl Future<Output = Result<T>>,
) -> Result<T> {
    AssertUnwindSafe(request).catch_unwind().await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, format!("the store panicked, call=`{name}`")))
    })
}

/// Returns call options with the timeout `limit`.
pub(crate) fn within(limit: Duration) -> CallOptions {
    CallOptions::default().with_timeout(limit)
}
