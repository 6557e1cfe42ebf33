//! The changes of a service as a stream.

use super::broadcast::Update;
use super::shared::SharedView;
use futures_util::Stream;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A stream of the updates of a service. It begins with the state at the first poll, and its status.
///
/// A subscriber that keeps up receives every batch in order. One that lags by more than 1024 batches receives the
/// current state instead, as a [`Reset`](Update::Reset), and continues from there. A batch that only rewrites records
/// unchanged under the same lease is not reported.
///
/// During an outage the stream yields a [`Status`](Update::Status) for each failed attempt to reach the store. It ends
/// only if the runtime of the view is shut down, after a status whose error is of kind
/// [`Closed`](registry_core::ErrorKind::Closed).
pub struct Updates {
    /// The number of this subscriber at the broadcaster.
    subscriber: usize,
    /// Keeps the watch open.
    shared: Arc<SharedView>,
}

impl Updates {
    pub(super) fn new(shared: Arc<SharedView>) -> Self {
        Self { subscriber: shared.broadcaster.subscribe(), shared }
    }
}

impl Stream for Updates {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.shared.broadcaster.poll_next(self.subscriber, cx)
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.shared.broadcaster.unsubscribe(self.subscriber);
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").field("service", &self.shared.service).finish_non_exhaustive()
    }
}
