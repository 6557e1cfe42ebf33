//! The servers that crash, and their clients.

use crate::arms::{Client, Keyspace, Ours};
use crate::harness::stores::{connect, own};
use crate::harness::{Level, RedisLink, Store, StoreOptions};
use anyhow::{Context, Result};
use registry_core::ServiceName;
use registry_testbed::servers::{Etcd, Process, Redis};
use serde::Serialize;
use std::time::Duration;

/// How long a Redis may take to answer a plain client.
const PATIENCE: Duration = Duration::from_secs(1);

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

    /// Returns the options of the server.
    fn servers(self, at: &StoreOptions) -> Result<StoreOptions> {
        let on =
            |level: Level, store| level.servers(store, at)?.context("each store has this level");
        match self {
            Self::RedisEverySecond => on(Level::WithinASecond, Store::Redis),
            Self::RedisAlways | Self::PlainKeys => on(Level::OnDisk, Store::Redis),
            Self::Etcd => on(Level::OnDisk, Store::Etcd),
            Self::RedisDefault => {
                // The default of redis.conf.
                let redis = own(&at.redis, &["--save", "3600 1 300 100 60 10000"]);
                Ok(StoreOptions { redis, ..at.clone() })
            }
        }
    }
}

impl Server {
    pub(super) async fn start(mode: Mode, at: &StoreOptions) -> Result<Self> {
        let servers = mode.servers(at)?;
        Ok(match mode {
            Mode::Etcd => Self::Etcd(Etcd::start_with(servers.etcd).await?),
            _ => Self::Redis(Redis::start_with(servers.redis).await?),
        })
    }

    pub(super) async fn client(&self, mode: Mode) -> Result<Box<dyn Client>> {
        let service = ServiceName::new("persistence")?;
        let url = match self {
            Self::Etcd(etcd) => etcd.url(),
            Self::Redis(redis) => redis.url(),
        };
        Ok(if mode == Mode::PlainKeys {
            Box::new((Keyspace(RedisLink::new(url, PATIENCE)?), service))
        } else {
            Box::new((Ours::from(connect(url).await?), service))
        })
    }

    pub(super) fn process(&mut self) -> Result<&mut Process> {
        Ok(match self {
            Self::Etcd(etcd) => etcd.process()?,
            Self::Redis(redis) => redis.process()?,
        })
    }
}
