//! The stores that crash, with their persistence settings and clients.

use super::super::observers::{ObserverArm, WRITER};
use crate::harness::stores::own;
use crate::harness::{Client, Level, Server, Store, StoreOptions};
use anyhow::Result;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// The registry on a Redis with the snapshots of redis.conf, and no append-only file.
    RedisDefault,
    /// The registry on a Redis with an append-only file, synced every second.
    RedisEverySecond,
    /// The registry on a Redis with an append-only file, synced before each response.
    RedisAlways,
    /// Plain keys with a ttl, on a Redis as for `RedisAlways`.
    PlainKeys,
    Etcd,
}

impl Mode {
    pub(super) const ALL: [Self; 5] = [
        Self::RedisDefault,
        Self::RedisEverySecond,
        Self::RedisAlways,
        Self::PlainKeys,
        Self::Etcd,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RedisDefault => "service-registry on Redis, snapshots only",
            Self::RedisEverySecond => "service-registry on Redis, AOF everysec",
            Self::RedisAlways => "service-registry on Redis, AOF always",
            Self::PlainKeys => "Redis: keys with a ttl, AOF always",
            Self::Etcd => "service-registry on etcd",
        }
    }

    /// Returns the number of disk writes of a registration. etcd grants the lease first.
    pub(super) fn writes(self) -> usize {
        if self == Self::Etcd { 2 } else { 1 }
    }

    pub(super) async fn start(self, at: &StoreOptions) -> Result<Server> {
        let store = if self == Self::Etcd { Store::Etcd } else { Store::Redis };
        let options = match self {
            Self::RedisDefault => {
                // the default of redis.conf
                let redis = own(&at.redis, &["--save", "3600 1 300 100 60 10000"]);
                StoreOptions { redis, ..at.clone() }
            }
            Self::RedisEverySecond => Level::WithinASecond.servers(at)?,
            Self::RedisAlways | Self::PlainKeys | Self::Etcd => Level::OnDisk.servers(at)?,
        };
        Server::start_with(store, &options).await
    }

    pub(super) async fn client(self, server: &Server) -> Result<Box<dyn Client>> {
        let arm = match self {
            Self::Etcd => ObserverArm::OursOnEtcd,
            Self::PlainKeys => ObserverArm::Keyspace,
            _ => ObserverArm::OursOnRedis,
        };
        arm.client(server.url(), "persistence", WRITER).await
    }
}
