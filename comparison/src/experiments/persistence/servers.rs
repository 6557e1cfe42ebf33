//! The servers that crash, and their clients.

use super::super::observers::{ObserverArm, WRITER};
use crate::harness::stores::own;
use crate::harness::{Client, Level, Store, StoreOptions};
use anyhow::{Context, Result};
use registry_testbed::servers::{Etcd, Process, Redis};
use serde::Serialize;

/// A store with its persistence settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// The registry on a Redis with default settings: no append-only file, periodic snapshots.
    RedisDefault,
    /// The registry on a Redis with an append-only file, synced every second.
    RedisEverySecond,
    /// The registry on a Redis with an append-only file, synced before each response.
    RedisAlways,
    /// Plain keys with a ttl, on a Redis as for `RedisAlways`.
    PlainKeys,
    /// The registry on etcd.
    Etcd,
}

/// The server of a round.
pub(super) enum Server {
    Etcd(Etcd),
    Redis(Redis),
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
            Self::RedisDefault => "registry on Redis, default settings",
            Self::RedisEverySecond => "registry on Redis, AOF everysec",
            Self::RedisAlways => "registry on Redis, AOF always",
            Self::PlainKeys => "plain keys with a ttl, AOF always",
            Self::Etcd => "registry on etcd",
        }
    }

    /// Returns how many writes to disk a registration takes: etcd grants the lease first.
    pub(super) fn writes(self) -> usize {
        if self == Self::Etcd { 2 } else { 1 }
    }

    pub(super) async fn start(self, at: &StoreOptions) -> Result<Server> {
        let at_level =
            |level: Level, store| level.servers(store, at)?.context("each store has this level");
        let redis = match self {
            Self::Etcd => {
                let etcd = at_level(Level::OnDisk, Store::Etcd)?.etcd;
                return Ok(Server::Etcd(Etcd::start_with(etcd).await?));
            }
            // The default of redis.conf.
            Self::RedisDefault => own(&at.redis, &["--save", "3600 1 300 100 60 10000"]),
            Self::RedisEverySecond => at_level(Level::WithinASecond, Store::Redis)?.redis,
            Self::RedisAlways | Self::PlainKeys => at_level(Level::OnDisk, Store::Redis)?.redis,
        };
        Ok(Server::Redis(Redis::start_with(redis).await?))
    }

    pub(super) async fn client(self, server: &Server) -> Result<Box<dyn Client>> {
        let arm = match self {
            Self::Etcd => ObserverArm::OursOnEtcd,
            Self::PlainKeys => ObserverArm::Keyspace,
            _ => ObserverArm::OursOnRedis,
        };
        let url = match server {
            Server::Etcd(etcd) => etcd.url(),
            Server::Redis(redis) => redis.url(),
        };
        arm.client(url, "persistence", WRITER).await
    }
}

impl Server {
    pub(super) fn process(&mut self) -> Result<&mut Process> {
        Ok(match self {
            Self::Etcd(etcd) => etcd.process()?,
            Self::Redis(redis) => redis.process()?,
        })
    }
}
