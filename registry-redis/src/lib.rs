//! The service registry over Redis: one server, a primary under Sentinel or a Cluster, with the guarantees
//! of the [contract](registry_core::Registry).
//!
//! Redis has no leases, no revisions and no watch that can be resumed. Here Lua scripts make them of
//! its plain types: a script is atomic, so a change, its revision and its entry in a stream are one.
//! Watches read the stream. There are no keys with a ttl, no keyspace notifications and no pub/sub:
//! the first expire late, the others lose what is sent while nobody listens.
//!
//! ```no_run
//! use registry_core::{Registry, ServiceName};
//! use registry_redis::RedisRegistry;
//!
//! # async fn example() -> registry_core::Result<()> {
//! let registry = RedisRegistry::connect(&"redis://127.0.0.1:6379/0?prefix=prod".parse()?).await?;
//! let service: ServiceName = "user.rpc".parse()?;
//! let snapshot = registry.load(&service).await?;
//! let watch = registry.watch(&service, snapshot.cursor()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises beyond the contract
//!
//! * **Expiry** runs on a clock of its own that stands still in a restart or a failover: it costs no
//!   lease any time, however long it took. Whoever touches a shard lets expire what is due, and every
//!   process that watches in it does so on time: within 100 ms and a round trip, for up to 100 leases
//!   at once, and some 25 ms more for each further 1,000.
//! * **Every rollback is noticed**, by a chain of digests: a restart from an old file, a failover to a
//!   replica that lagged, a wipe. A cursor from before it still resumes; one from beyond is `Diverged`.
//!   An open watch learns it within 6 s at the latest, even if nothing happens.
//! * **A server that is not the one to ask** any more is noticed: one that was made a replica, one that
//!   was left behind when its address moved, and a primary that was cut off while Sentinel promoted
//!   another (within some 10 s). To readers, too, it is `Unavailable`.
//! * **Cost**: a handle has one connection for commands, and a second one while there are watches; on a
//!   Cluster one for commands to each node in use, and one for each shard that is watched in. With
//!   [`ack`](RedisOptions::with_ack) there is one more for writes.
//!
//! # What it cannot promise
//!
//! * Redis loses acknowledged writes, by default at every crash and at every failover. That is found
//!   out, and mended by who registers again: see the law *Lost write*.
//! * A server that refuses writes, for want of memory, disk or replicas, is `Unavailable` to readers
//!   too: nobody can renew there, so that what it shows is soon untrue.
//! * A server clock set forward looks like time passing: leases expire early by as much.
//! * A policy of `maxmemory` that evicts keys without a ttl (`allkeys-*`) destroys shards: such a server
//!   is refused. Where it is set later, what it does is found out. Use `noeviction` or a `volatile-*` policy.
//! * While a slot of a Cluster moves, what lies in it is `Unavailable` for moments.
//!
//! # Rights
//!
//! A user of the server needs, for the prefix `registry`, the keys `~{registry}:*` and
//! `~{registry/*}:*`, no channels, and these commands: `+@connection +info +get +set +hsetnx +hmget +hget +hset
//! +hdel +hexists +hincrby +hgetall +hlen +del +zadd +zrem +zrange +zrangebylex +zrangebyscore +zscore +zcard +xadd
//! +xread +xrange +time +evalsha +script|load`.
//!
//! [`diagnose`](RedisRegistry::diagnose) would also ask `CONFIG GET appendfsync`, and does without.
//! With [`ack`](RedisOptions::with_ack) also `+wait` or `+waitaof`; in a Cluster `+asking` is part of
//! `+@connection`. A sentinel is asked `SENTINEL MASTER` and
//! `SENTINEL GET-MASTER-ADDR-BY-NAME`.
//!
//! How it lies there is said in `shard.rs` and `history.rs`.

mod client;
mod connect;
mod deadline;
mod diagnose;
mod error;
mod feed;
mod history;
mod info;
mod load;
mod options;
mod renewals;
mod scripts;
mod shard;
mod store;
mod watch;

pub use self::options::{Ack, RedisOptions};

use crate::client::Client;
use crate::connect::ConnectConfig;
use crate::feed::Feeds;
use crate::renewals::RenewalBatcher;
use crate::store::Store;
use async_trait::async_trait;
use registry_core::diagnosis::Finding;
use registry_core::{
    Claim, Cursor, Instance, Lease, Registry, Result, ServiceName, Snapshot, Target, Watch,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A registry in Redis.
///
/// A clone is a handle to the same connections.
#[derive(Clone)]
pub struct RedisRegistry {
    store: Arc<Store>,
    renewals: RenewalBatcher,
    feeds: Feeds,
}

impl RedisRegistry {
    /// Connects to the server, or the servers, of a URL:
    ///
    /// * `redis://[user:password@]host[:port][/database]`
    /// * `redis+sentinel://[user:password@]sentinel[:port][,...]/primary[/database]`, where `primary` is what
    ///   the sentinels call it, and the user is one of the primary;
    /// * `redis+cluster://[user:password@]node[:port][,...]`, where the nodes are some of them.
    ///
    /// With the feature `tls` also `rediss://`, `rediss+sentinel://` and `rediss+cluster://`, with the options
    /// `ca`, `cert` and `key`: files in PEM with the only authority to trust (or else those of the system
    /// are), and with what we prove who we are by.
    ///
    /// Everything lies under the option `prefix`, `registry` by default. Users of one prefix share a
    /// registry; those of different prefixes know nothing of each other. The option `ack` is said at
    /// [`RedisOptions::with_ack`].
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL is not of that form or names servers of another kind, the prefix is used by
    /// something else, or the server evicts keys; `Denied`, `Unavailable`.
    pub async fn connect(target: &Target) -> Result<Self> {
        Self::connect_with(target, RedisOptions::default()).await
    }

    /// Connects with other options than the default ones.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and `Invalid` for options that cannot work.
    pub async fn connect_with(target: &Target, options: RedisOptions) -> Result<Self> {
        let client = Client::connect(ConnectConfig::new(target, options)?).await?;
        let store = Arc::new(Store { client });
        let renewals = RenewalBatcher::new(store.clone());
        let feeds = Feeds::new(store.clone());
        Ok(Self { store, renewals, feeds })
    }

    /// Checks the shards and the records in them, and the servers: their versions, what they may evict
    /// and what they keep on disk. Also rehearses a registration.
    ///
    /// It reads everything under the prefix. A question that the credentials do not permit is a warning.
    pub async fn diagnose(&self) -> Vec<Finding> {
        diagnose::diagnose(&self.store, self).await
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn register(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        Ok(self.store.register(instance, claim).await?)
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        Ok(self.renewals.renew(lease).await?)
    }

    async fn deregister(&self, lease: &Lease) -> Result<()> {
        Ok(self.store.deregister(lease).await?)
    }

    async fn load(&self, service: &ServiceName) -> Result<Snapshot> {
        Ok(load::load(&self.store, service).await?)
    }

    async fn watch(&self, service: &ServiceName, after: &Cursor) -> Result<Watch> {
        watch::watch(&self.store, &self.feeds, service, after).await
    }

    async fn services(&self) -> Result<BTreeSet<ServiceName>> {
        Ok(self.store.services().await?)
    }
}

impl fmt::Debug for RedisRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisRegistry").field(&self.store.client).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_testbed::call_sizes;
    use registry_testbed::servers::Redis;

    #[tokio::test]
    async fn futures_of_calls_are_small() {
        let server = Redis::start().await.unwrap();
        let registry = RedisRegistry::connect(&server.url().parse().unwrap()).await.unwrap();
        let sizes = call_sizes(&registry).await;
        assert!(sizes.iter().all(|(_, size)| *size <= 3 * 1024), "{sizes:?}");
    }
}
