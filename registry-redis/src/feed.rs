//! Feeds: one task and one connection serve all watches of shards on the same server.
//!
//! A feed starts with the first watch and stops after the last. It never reconnects: when its connection
//! fails, it ends all its watches, and the next watch starts another feed.

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
    /// The number of feeds per runtime.
    count: usize,
    queues: Arc<Mutex<HashMap<QueueKey, RequestQueue>>>,
}

/// The runtime of a feed, and its number there. A runtime may not be driven, so no feed depends on another runtime.
type QueueKey = (runtime::Id, usize);

impl Feeds {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let shards = store.client.keyspace().len();
        let count = store.client.topology().feed_count(shards).into();
        Self { store, count, queues: Arc::default() }
    }

    /// Subscribes a watch to a feed. Returns the position after which the feed publishes: that of the watch,
    /// or a later one if the feed is ahead.
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
        // No deadline is needed: the task replies at once, or has ended.
        replied.await.map_err(|_| StoreError::FeedEnded)
    }

    /// The lock is held for a moment in which nothing can panic.
    fn queue(&self, key: QueueKey) -> RequestQueue {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if !queues.contains_key(&key) {
            queues.retain(|_, queue| queue.is_running());
        }
        queues.entry(key).or_default().clone()
    }
}
