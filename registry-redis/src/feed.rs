//! The feeds: one task and one connection for all watches of shards that share a server.
//!
//! A feed begins with the first watch and ends with the last. When its connection fails, it ends all its
//! watches, and the next watch begins another feed: a feed never reconnects.

mod queue;
mod task;
mod watched_shard;

pub(crate) use self::queue::Subscription;

use self::queue::RequestQueue;
use self::task::FeedTask;
use crate::error::StoreError;
use crate::history::Position;
use crate::store::Store;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The feeds of a registry. A clone is a handle to the same feeds.
#[derive(Clone, Debug)]
pub(crate) struct Feeds {
    store: Arc<Store>,
    queues: Arc<[RequestQueue]>,
}

impl Feeds {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let shards = store.client.keyspace().len();
        let count = store.client.topology().feed_count(shards);
        Self { store, queues: (0..count).map(|_| RequestQueue::default()).collect() }
    }

    /// Makes a feed publish to a watch. Returns the position after which it does: that of the watch, or
    /// a later one if the feed is ahead of it.
    pub(crate) async fn subscribe(
        &self,
        subscription: Subscription,
    ) -> Result<Position, StoreError> {
        let index = self.store.client.keyspace().index(subscription.shard) % self.queues.len();
        let queue = &self.queues[index];
        let (reply, replied) = oneshot::channel();
        if let Some(requests) = queue.send((subscription, reply))? {
            tokio::spawn(FeedTask::new(self.store.clone(), queue.clone(), requests).run());
        }
        // No deadline: the task replies at once, or has ended.
        replied.await.map_err(|_| StoreError::FeedEnded)
    }
}
