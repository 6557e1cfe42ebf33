//! The queue of subscriptions to the task of a feed.

use crate::error::StoreError;
use crate::history::Position;
use crate::shard::Shard;
use registry_core::{Origin, Publisher, ServiceName};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// The capacity of the queue. The task always takes requests without waiting for anything else.
const CAPACITY: usize = 1024;

/// A watch that has read the log of its shard up to a position, and needs the changes after it.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) shard: Shard,
    pub(crate) service: ServiceName,
    /// The member whose changes the watch needs, or `None` for the whole service.
    pub(crate) member: Option<String>,
    pub(crate) origin: Origin,
    pub(crate) at: Position,
    /// When the next lease of the shard expires, as of that position.
    pub(crate) due: Option<Instant>,
    pub(crate) publisher: Publisher,
}

/// A subscription, and the sender for the position after which the task publishes.
pub(super) type Request = (Subscription, oneshot::Sender<Position>);

/// The sending end of the task's queue, while a task runs. A clone is a handle to the same queue.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestQueue(Arc<Mutex<Option<mpsc::Sender<Request>>>>);

impl RequestQueue {
    /// Sends a request to the running task. If there is none, returns the receiver for a new task.
    pub(super) fn send(
        &self,
        request: Request,
    ) -> Result<Option<mpsc::Receiver<Request>>, StoreError> {
        // While the lock is held, the task cannot end with a request in its queue.
        let mut running = self.lock();
        let request = match &*running {
            None => request,
            Some(task) => match task.try_send(request) {
                Ok(()) => return Ok(None),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(StoreError::TooManyWatches),
                Err(mpsc::error::TrySendError::Closed(request)) => request,
            },
        };
        let (sender, receiver) = mpsc::channel(CAPACITY);
        sender.try_send(request).map_err(|_| StoreError::TooManyWatches)?;
        *running = Some(sender);
        Ok(Some(receiver))
    }

    /// Takes the next request for the calling task. If there is none, the task counts as ended.
    pub(super) fn next_or_stop(&self, requests: &mut mpsc::Receiver<Request>) -> Option<Request> {
        let mut running = self.lock();
        let next = requests.try_recv().ok();
        if next.is_none() {
            *running = None;
        }
        next
    }

    /// Returns whether a task is running.
    pub(super) fn is_running(&self) -> bool {
        self.lock().as_ref().is_some_and(|task| !task.is_closed())
    }

    /// The lock is held for a few assignments that cannot panic.
    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<Request>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
