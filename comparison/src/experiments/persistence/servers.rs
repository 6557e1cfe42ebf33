//! The servers that are to survive, and who uses them.

use crate::levels::Level;
use crate::stores::{Store, Where};
use anyhow::{Context, Result};
use registry_core::{Claim, Instance, InstanceId, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Etcd, Process, Redis, ServerOptions};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// A store with what it does to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// The registry on a Redis as it comes: no append-only file, a snapshot now and then.
    RedisAsItComes,
    /// With an append-only file, synced each second.
    RedisEverySecond,
    /// With an append-only file, synced before each answer.
    RedisAlways,
    /// Plain keys with a ttl on the latter.
    PlainKeys,
    /// The registry on etcd.
    Etcd,
}

/// A server of this round.
pub(super) enum Server {
    Etcd(Etcd),
    Redis(Redis),
}

/// How instances are held in it.
pub(super) enum Keeper {
    Registry(Arc<dyn Registry>, ServiceName),
    Keys(redis::aio::MultiplexedConnection),
}

impl Mode {
    pub(super) const ALL: [Self; 5] = [
        Self::RedisAsItComes,
        Self::RedisEverySecond,
        Self::RedisAlways,
        Self::PlainKeys,
        Self::Etcd,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RedisAsItComes => "registry on Redis, as it comes",
            Self::RedisEverySecond => "registry on Redis, AOF everysec",
            Self::RedisAlways => "registry on Redis, AOF always",
            Self::PlainKeys => "plain keys with a ttl, AOF always",
            Self::Etcd => "registry on etcd",
        }
    }

    /// How many writes a registration is, each of which has to be on disk: etcd grants the lease first.
    pub(super) fn writes(self) -> usize {
        if self == Self::Etcd { 2 } else { 1 }
    }

    /// Where the server is found, and what it is told.
    fn servers(self, at: &Where) -> Result<Where> {
        let on = |level: Level, store| {
            level.servers(store, at)?.context("each store can be told to survive")
        };
        match self {
            Self::RedisEverySecond => on(Level::WithinASecond, Store::Redis),
            Self::RedisAlways | Self::PlainKeys => on(Level::OnDisk, Store::Redis),
            Self::Etcd => on(Level::OnDisk, Store::Etcd),
            Self::RedisAsItComes => {
                // What redis.conf comes with.
                let arguments = ["--save", "3600 1 300 100 60 10000"].map(str::to_owned).to_vec();
                let redis = ServerOptions { url: None, arguments, ..at.redis.clone() };
                Ok(Where { redis, ..at.clone() })
            }
        }
    }
}

impl Server {
    pub(super) async fn start(mode: Mode, at: &Where) -> Result<Self> {
        let servers = mode.servers(at)?;
        Ok(match mode {
            Mode::Etcd => Self::Etcd(Etcd::start_with(servers.etcd).await?),
            _ => Self::Redis(Redis::start_with(servers.redis).await?),
        })
    }

    pub(super) async fn keeper(&self, mode: Mode) -> Result<Keeper> {
        let service = ServiceName::new("persistence")?;
        Ok(match self {
            Self::Etcd(etcd) => {
                let registry = EtcdRegistry::connect(&etcd.url().parse()?).await?;
                Keeper::Registry(Arc::new(registry), service)
            }
            Self::Redis(redis) if mode == Mode::PlainKeys => {
                let client = redis::Client::open(redis.url())?;
                Keeper::Keys(client.get_multiplexed_async_connection().await?)
            }
            Self::Redis(redis) => {
                let registry = RedisRegistry::connect(&redis.url().parse()?).await?;
                Keeper::Registry(Arc::new(registry), service)
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

impl Keeper {
    pub(super) async fn register(&self, id: usize, ttl: Duration) -> Result<()> {
        match self {
            Self::Registry(registry, service) => {
                let id = InstanceId::new(id.to_string())?;
                let instance = Instance::new(service.clone(), id, "10.0.0.1:8080".parse()?);
                registry.register(&instance, &Claim::new(ttl)?).await?;
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
                let snapshot = registry.load(service).await?;
                let ids = snapshot.instances().ids().map(|id| id.as_str().parse());
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
