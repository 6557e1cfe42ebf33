//! The queue between the publisher of a watch and its reader.
//!
//! A new batch replaces unread progress. Progress thus takes no capacity from changes, and the reader still learns the
//! last position of the watch.

use crate::{Batch, Error};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Returns both ends of a new queue for at most `capacity` batches with changes.
pub(super) fn queue(capacity: usize) -> (Sender, Receiver) {
    let shared = Arc::<Shared>::default();
    (Sender { shared: shared.clone(), capacity }, Receiver(shared))
}

#[derive(Debug, Default)]
struct Shared(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// Batches with changes, followed by at most one progress batch.
    batches: VecDeque<Arc<Batch>>,
    /// Whether the sender was dropped.
    is_ended: bool,
    /// The error that the sender left.
    error: Option<Error>,
    /// Whether the receiver was dropped.
    is_closed: bool,
    receiver: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Sender {
    shared: Arc<Shared>,
    capacity: usize,
}

pub(super) struct Receiver(Arc<Shared>);

/// Why a batch was not sent.
pub(super) enum SendError {
    Full,
    Closed,
}

impl Sender {
    pub(super) fn send(&self, batch: Arc<Batch>) -> Result<(), SendError> {
        let mut queue = self.shared.lock();
        if queue.is_closed {
            return Err(SendError::Closed);
        }
        if queue.batches.back().is_some_and(|last| last.is_progress()) {
            queue.batches.pop_back();
        }
        if queue.batches.len() == self.capacity && !batch.is_progress() {
            return Err(SendError::Full);
        }
        queue.batches.push_back(batch);
        let waker = queue.receiver.take();
        drop(queue);
        wake(waker);
        Ok(())
    }

    /// Sets the error that the receiver gets after all batches, once the sender is dropped.
    pub(super) fn fail(&self, error: Error) {
        self.shared.lock().error.get_or_insert(error);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.lock().is_closed
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.is_ended = true;
        let waker = queue.receiver.take();
        drop(queue);
        wake(waker);
    }
}

impl Receiver {
    /// Returns the next batch. At the end of the queue, returns the error of the sender, if it left one.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<Result<Arc<Batch>, Option<Error>>> {
        let mut queue = self.0.lock();
        if let Some(batch) = queue.batches.pop_front() {
            return Poll::Ready(Ok(batch));
        }
        if queue.is_ended {
            return Poll::Ready(Err(queue.error.take()));
        }
        if !queue.receiver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.receiver = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        queue.batches = VecDeque::new();
    }
}

impl Shared {
    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
