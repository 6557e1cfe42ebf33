//! A Redis store for the [contract](registry_core::Registry) of a registry: over one server, a primary under
//! Sentinel, or a Cluster.
//!
//! Redis has no leases, no revisions and no resumable watch. This crate builds them from plain data types
//! with Lua scripts. A script is atomic, so a change, its revision and its entry in a stream are written
//! together. Watches read the stream. The crate does not use keys with a ttl, which expire late, or keyspace
//! notifications and pub/sub, which lose messages while no client listens.
//!
//! ```no_run
//! use registry_core::{CallOptions, Registry, ServiceName};
//! use registry_redis::RedisRegistry;
//!
//! # async fn example() -> registry_core::Result<()> {
//! let registry = RedisRegistry::connect(&"redis://127.0.0.1:6379/0?prefix=prod".parse()?).await?;
//! let service: ServiceName = "user.rpc".parse()?;
//! let options = CallOptions::default();
//! let snapshot = registry.load(&service, &options).await?;
//! let watch = registry.watch(&service, snapshot.cursor(), &options).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees beyond the contract
//!
//! * **Expiry** runs on a lease clock that stops during a restart or a failover, so these cost leases no
//!   time, however long they take. Every call deletes the expired leases of its shard, and every process that
//!   watches a shard does so on time: within 100 ms and a round trip for up to 100 leases that expire
//!   together, and about 25 ms more for each further 1,000.
//! * **Every rollback is detected** by a chain of digests: a restart from an old file, a failover to a
//!   lagging replica, or a wipe. A cursor from before the rollback still resumes; a later one fails
//!   `Diverged`. An open watch fails within 6 s, even if nothing changes.
//! * **An outdated server is detected**: one that became a replica, one whose address moved to another
//!   server, and a partitioned primary after Sentinel promoted another (within about 10 s). Such a server is
//!   `Unavailable` to readers, too.
//! * **Connections**: a handle has one connection for commands, and a second one while there are watches. On
//!   a Cluster it has one for commands to each node in use, and one for each watched shard. With
//!   [`ack`](RedisOptions::with_ack) it has one more for writes.
//!
//! # Limitations
//!
//! * Redis loses acknowledged writes, by default at every crash and every failover. This is detected, and
//!   repaired when the owners register again: see the law *Lost write*.
//! * A server that refuses writes, for lack of memory, disk or replicas, is `Unavailable` to readers too: no
//!   lease can be renewed there, so its records are soon outdated.
//! * A server clock that is set forward looks like time that passes: leases expire early by as much.
//! * A `maxmemory-policy` that evicts keys without a ttl (`allkeys-*`) destroys shards, so such a server is
//!   refused. If the policy is set later, evictions are detected. Use `noeviction` or a `volatile-*` policy.
//! * While a Cluster slot is being moved, its services are briefly `Unavailable`.
//!
//! # Permissions
//!
//! For the prefix `registry`, a Redis user that registers needs these ACL rules and no others:
//!
//! ```text
//! resetchannels -@all +info +client|setname +eval +evalsha +time +hsetnx +hmget +hget +hgetall +hset +hdel
//!   +hlen +zadd +zrem +zrange +zrangebylex +zrangebyscore +zscore +zcard +zcount +xadd +xread +xrange +xrevrange +del
//!   ~{registry}:layout ~{registry/[0-9][0-9]}:state ~{registry/[0-9][0-9]}:idx
//!   ~{registry/[0-9][0-9]}:exp ~{registry/[0-9][0-9]}:log
//! ```
//!
//! A user that only reads, with the option `access=read` in its URL, needs these:
//!
//! ```text
//! resetchannels -@all +info +client|setname +eval_ro +evalsha_ro +time +hmget +hlen +zrangebylex +zscore +zcard +zcount
//!   +xread +xrange %R~{registry}:layout %R~{registry/[0-9][0-9]}:state %R~{registry/[0-9][0-9]}:idx
//!   %R~{registry/[0-9][0-9]}:exp %R~{registry/[0-9][0-9]}:log
//! ```
//!
//! These key patterns match no other prefix. In a prefix, escape `*`, `?`, `[`, `]` and `\` with a `\`.
//! Further commands: `+select` for a database other than 0, `+asking` in a Cluster, `+wait` or `+waitaof`
//! with [`ack`](RedisOptions::with_ack), and optionally `+config|get` for [`diagnose`](Diagnose::diagnose).
//! At a sentinel, the user needs `+client|setname +sentinel|master +sentinel|get-master-addr-by-name`.
//!
//! A reader changes nothing. It does not list an instance whose lease has expired, even before an owner's
//! call deletes it. Its watches and `services()` reflect the expiry only after that deletion. A shard that
//! lost a key is `Unavailable` to a reader until an owner's call repairs it.
//!
//! The layout of the keys is documented in `shard.rs`, `value.rs` and `history.rs`.

mod client;
mod connect;
mod connector;
mod deadline;
mod diagnose;
mod digest;
mod error;
mod feed;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod history;
mod info;
mod load;
mod options;
mod renewals;
mod scripts;
mod shard;
mod skipped;
mod store;
mod value;
mod watch;

pub use self::connector::RedisConnector;
pub use self::options::{Ack, RedisOptions};

use crate::client::Client;
use crate::connect::ConnectConfig;
use crate::feed::Feeds;
use crate::renewals::RenewalBatcher;
use crate::store::Store;
use async_trait::async_trait;
use registry_core::diagnosis::Finding;
use registry_core::{
    CallOptions, Claim, Cursor, Diagnose, Holder, Instance, Lease, Registry, Result, ServiceName,
    Snapshot, Target, Watch,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A registry in Redis.
///
/// A clone is a handle to the same connections.
#[derive(Clone)]
pub struct RedisRegistry {
    default_ttl: Option<Duration>,
    store: Arc<Store>,
    renewals: RenewalBatcher,
    feeds: Feeds,
}

impl RedisRegistry {
    /// Connects to the server or servers of a URL:
    ///
    /// * `redis://[user:password@]host[:port][/database]`
    /// * `redis+sentinel://[user:password@]sentinel[:port][,...]/primary[/database]`, where `primary` is the
    ///   name of the primary at the sentinels, and the credentials are for the primary;
    /// * `redis+cluster://[user:password@]node[:port][,...]`, with some of the nodes.
    ///
    /// With the feature `tls`, also `rediss://`, `rediss+sentinel://` and `rediss+cluster://`. Their options
    /// `ca`, `cert` and `key` name PEM files with the trusted authorities (by default those of the system)
    /// and the client's certificate and key.
    ///
    /// The option `prefix`, `registry` by default, is the prefix of all keys. Clients with the same prefix
    /// share a registry; those with different prefixes are isolated from each other. For the option `ack`
    /// see [`RedisOptions::with_ack`], for the option `access` [`RedisOptions::with_read_only`].
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL does not have that form or names servers of another topology, if other keys
    /// occupy the prefix, or if the server evicts keys; `Denied`, `Unavailable`.
    pub async fn connect(target: &Target) -> Result<Self> {
        Self::connect_with(target, RedisOptions::default()).await
    }

    /// Connects with the given options.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect), and `Invalid` for options that cannot work.
    pub async fn connect_with(target: &Target, options: RedisOptions) -> Result<Self> {
        let registry = Self::connect_lazy_with(target, options)?;
        registry.store.client.ensure_layout().await?;
        Ok(registry)
    }

    /// Returns a handle to the servers of a URL, with the default options and without a request: see
    /// [`connect_lazy_with`](Self::connect_lazy_with).
    ///
    /// # Errors
    ///
    /// Those of [`connect_lazy_with`](Self::connect_lazy_with).
    pub fn connect_lazy(target: &Target) -> Result<Self> {
        Self::connect_lazy_with(target, RedisOptions::default())
    }

    /// Returns a handle with the given options, without a request. The first call connects, and checks the
    /// server and the prefix as [`connect_with`](Self::connect_with) does.
    ///
    /// Until the check succeeds, each call returns its error, such as `Invalid` for a server that evicts
    /// keys. Concurrent calls share one connection attempt.
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL does not have the form that [`connect`](Self::connect) states, or if the options
    /// cannot work.
    pub fn connect_lazy_with(target: &Target, options: RedisOptions) -> Result<Self> {
        let client = Client::new(ConnectConfig::new(target, options)?);
        let store = Arc::new(Store { client });
        let renewals = RenewalBatcher::new(store.clone());
        let feeds = Feeds::new(store.clone());
        Ok(Self { default_ttl: target.ttl(), store, renewals, feeds })
    }
}

#[async_trait]
impl Diagnose for RedisRegistry {
    /// Checks the shards and their records, and the servers: their versions, eviction and persistence. Also
    /// rehearses a registration.
    ///
    /// It reads everything under the prefix. A check for which the credentials lack permission is a warning.
    async fn diagnose(&self) -> Vec<Finding> {
        diagnose::diagnose(&self.store, self).await
    }
}

#[async_trait]
impl Registry for RedisRegistry {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        limit(options, async || Ok(self.store.register(instance, claim).await?)).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        limit(options, async || Ok(self.store.holder(instance).await?)).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        // The script always reads the record, so `Presence::Proven` would save nothing.
        limit(options, async || Ok(self.renewals.renew(lease).await?)).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        limit(options, async || Ok(self.store.deregister(lease).await?)).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        limit(options, async || Ok(load::load(&self.store, service).await?)).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        limit(options, || watch::watch(&self.store, &self.feeds, service, after)).await
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        limit(options, || watch::watch_record(&self.store, &self.feeds, lease)).await
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        limit(options, async || Ok(self.store.services().await?)).await
    }

    fn default_ttl(&self) -> Option<Duration> {
        self.default_ttl
    }
}

/// Makes a call with the caller's timeout. The timeout does not affect the connection: only this store's own
/// deadlines show that a server is dead.
///
/// The call is passed as a function, since a future passed to an `async fn` takes twice its size.
async fn limit<T, F: Future<Output = Result<T>>>(
    options: &CallOptions,
    call: impl FnOnce() -> F,
) -> Result<T> {
    match options.timeout {
        None => call().await,
        Some(_) => options.limit(Box::pin(call())).await,
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
