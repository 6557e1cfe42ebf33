//! The feeds: one task and one connection for all watches of shards that share a server.
//!
//! A feed begins with the first watch and ends with the last. When its connection fails, it ends all its
//! watches, and the next watch begins another feed: a feed never reconnects.

mod checks;
mod queue;
mod task;
mod watched_shard;

pub(crate) use self::queue::Subscription;

use self::queue::RequestQueue;
use self::task::FeedTask;
use crate::error::StoreError;
use crate::history::Position;
use crate::store::Store;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime;
use tokio::sync::oneshot;

/// The feeds of a registry. A clone is a handle to the same feeds.
#[derive(Clone, Debug)]
pub(crate) struct Feeds {
    store: Arc<Store>,
    /// How many there are on each runtime.
    count: usize,
    queues: Arc<Mutex<HashMap<QueueKey, RequestQueue>>>,
}

/// The runtime that a feed runs on, and its number there. A runtime may stand still, so none waits for another one.
type QueueKey = (runtime::Id, usize);

impl Feeds {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let shards = store.client.keyspace().len();
        let count = store.client.topology().feed_count(shards).into();
        Self { store, count, queues: Arc::default() }
    }

    /// Makes a feed publish to a watch. Returns the position after which it does: that of the watch, or
    /// a later one if the feed is ahead of it.
    pub(crate) async fn subscribe(
        &self,
        subscription: Subscription,
    ) -> Result<Position, StoreError> {
        let number = self.store.client.keyspace().index(subscription.shard) % self.count;
        let queue = self.queue((runtime::Handle::current().id(), number));
        let (reply, replied) = oneshot::channel();
        if let Some(requests) = queue.send((subscription, reply))? {
            tokio::spawn(FeedTask::new(self.store.clone(), queue.clone(), requests).run());
        }
        // No deadline: the task replies at once, or has ended.
        replied.await.map_err(|_| StoreError::FeedEnded)
    }

    /// The lock is held for a moment, in which nothing panics.
    fn queue(&self, key: QueueKey) -> RequestQueue {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if !queues.contains_key(&key) {
            queues.retain(|_, queue| queue.is_running());
        }
        queues.entry(key).or_default().clone()
    }
}
