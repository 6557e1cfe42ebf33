//! The servers that crash, and their clients.

use crate::levels::Level;
use crate::stores::{Store, StoreOptions};
use anyhow::{Context, Result};
use registry_core::{CallOptions, Claim, Instance, InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Etcd, Process, Redis, ServerOptions};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

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

/// A client of the server.
pub(super) enum Client {
    Registry(Arc<dyn Registry>, ServiceName),
    Keys(redis::aio::MultiplexedConnection),
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
                let arguments = ["--save", "3600 1 300 100 60 10000"].map(str::to_owned).to_vec();
                let redis = ServerOptions { url: None, arguments, ..at.redis.clone() };
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

    pub(super) async fn client(&self, mode: Mode) -> Result<Client> {
        let service = ServiceName::new("persistence")?;
        Ok(match self {
            Self::Etcd(etcd) => {
                let registry = EtcdRegistry::connect(&etcd.url().parse()?).await?;
                Client::Registry(Arc::new(registry), service)
            }
            Self::Redis(redis) if mode == Mode::PlainKeys => {
                let redis = redis::Client::open(redis.url())?;
                Client::Keys(redis.get_multiplexed_async_connection().await?)
            }
            Self::Redis(redis) => {
                let registry = RedisRegistry::connect(&redis.url().parse()?).await?;
                Client::Registry(Arc::new(registry), service)
            }
        })
    }

    pub(super) fn process(&mut self) -> Result<&mut Process> {
        Ok(match self {
            Self::Etcd(etcd) => etcd.process()?,
            Self::Redis(redis) => redis.process()?,
        })
    }
}

impl Client {
    pub(super) async fn register(&self, id: usize, ttl: Duration) -> Result<()> {
        match self {
            Self::Registry(registry, service) => {
                let id = InstanceId::new(id.to_string())?;
                let instance = Instance::new(service.clone(), id, "10.0.0.1:8080".parse()?);
                registry.register(&instance, &Claim::new(ttl)?, &CallOptions::DEFAULT).await?;
            }
            Self::Keys(redis) => {
                let mut set = redis::cmd("SET");
                set.arg(format!("instance:{id}")).arg("10.0.0.1:8080").arg("PX");
                set.arg(u64::try_from(ttl.as_millis())?);
                set.exec_async(&mut redis.clone()).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn listed(&self) -> Result<Vec<usize>> {
        Ok(match self {
            Self::Registry(registry, service) => {
                let snapshot = registry.load(service, &CallOptions::DEFAULT).await?;
                let ids = snapshot.records().ids().map(|id| id.as_str().parse());
                ids.collect::<Result<_, _>>()?
            }
            Self::Keys(redis) => {
                let keys = redis::cmd("KEYS").arg("instance:*").to_owned();
                let keys: Vec<String> = keys.query_async(&mut redis.clone()).await?;
                let ids = keys.iter().map(|key| key.trim_start_matches("instance:").parse());
                ids.collect::<Result<_, _>>()?
            }
        })
    }
}
