//! What is wrong with a Redis, as its operator is told.

mod contents;
mod server;

use crate::RedisRegistry;
use registry_core::diagnosis::{Finding, check, rehearse};

impl RedisRegistry {
    /// Looks for what is wrong: with the shards and the records in them, with the servers that they
    /// lie on, what these may evict and what they keep on disk; and rehearses a registration.
    ///
    /// It reads all that is under the prefix. What these credentials may not ask is a warning.
    pub async fn diagnose(&self) -> Vec<Finding> {
        let store = &*self.store;
        // First of all: a load mends a shard that lost a key.
        let shards = check("history", contents::shards(store)).await;
        let rehearsed = rehearse(self).await;
        let (records, servers) = tokio::join!(
            Box::pin(check("records", contents::records(store))),
            Box::pin(check("server", server::look(&store.link))),
        );
        [rehearsed, servers, shards, records].concat()
    }
}
