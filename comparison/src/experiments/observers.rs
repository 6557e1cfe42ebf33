//! The arms that observe a service in the experiments: what people build on plain Redis, and the registry.

use crate::arms::{Keyspace, Ours, Publish, RawEtcd};
use crate::harness::observe::{link_to, opened};
use crate::harness::stores::{connect, describe_etcd, describe_redis};
use crate::harness::{ArmOptions, Link, OpenArm, Operator, RedisLink, StoreOptions};
use crate::workloads::Contender;
use anyhow::{Context, Result, bail};
use registry_mem::{FaultyRegistry, MemRegistry};
use registry_testbed::servers::{Etcd, EtcdCluster, Redis, RedisSentinel};
use serde::Serialize;
use std::time::Duration;

/// How long a server may take to answer a writer. Some are kept busy on purpose.
const WRITER_PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to answer an observer: what the client waits by default.
const OBSERVER_PATIENCE: Duration = Duration::from_millis(500);

/// A way to follow a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObserverArm {
    /// `HSET` and `PUBLISH`, and a subscriber that reconnects.
    Publish,
    /// The same, with a full read after each connect.
    PublishAndReread,
    /// Keys with a ttl and keyspace notifications, with a full read after each connect.
    Keyspace,
    /// A key under a lease, and etcd's watch.
    PlainEtcd,
    /// The registry on Redis.
    OursOnRedis,
    /// The registry on etcd.
    OursOnEtcd,
    /// The registry in memory.
    OursInMemory,
}

/// Replicated servers.
#[derive(Debug)]
pub struct ReplicatedServers {
    /// Of three members.
    pub etcd: EtcdCluster,
    /// Under Sentinel.
    pub redis: RedisSentinel,
}

/// The servers.
#[derive(Debug)]
pub struct Servers {
    /// The etcd, if it takes part.
    pub etcd: Option<Etcd>,
    /// The Redis, which always takes part.
    pub redis: Redis,
}

impl ObserverArm {
    /// The arms whose link is cut and paused. Plain etcd is not among them: a compaction of it hits all arms on it.
    pub const UNDER_FAULTS: [Self; 6] = [
        Self::Publish,
        Self::PublishAndReread,
        Self::Keyspace,
        Self::OursOnRedis,
        Self::OursOnEtcd,
        Self::OursInMemory,
    ];

    /// Returns the label in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publish => "Redis: HSET + PUBLISH",
            Self::PublishAndReread => "Redis: the same, re-read on reconnect",
            Self::Keyspace => "Redis: keys with a ttl + notifications",
            Self::PlainEtcd => "etcd: put + watch",
            Self::OursOnRedis => "registry on Redis",
            Self::OursOnEtcd => "registry on etcd",
            Self::OursInMemory => "registry in memory",
        }
    }

    /// Returns whether the arm is plain Redis, without the registry.
    pub fn is_plain_redis(self) -> bool {
        matches!(self, Self::Publish | Self::PublishAndReread | Self::Keyspace)
    }

    /// Opens the arm, on a service of its own.
    pub async fn open(self, servers: &Servers, options: ArmOptions<'_>) -> Result<OpenArm> {
        if self == Self::OursInMemory {
            let direct = MemRegistry::new();
            let faulty = FaultyRegistry::new(direct.clone());
            let writer = Ours::new(direct.clone()).with_operator(Operator::Memory(direct));
            return opened(writer, Ours::new(faulty.clone()), options, Link::Memory(faulty));
        }
        let url = self.url(servers)?;
        let (scheme, address) = url.split_once("://").context("a URL without a scheme")?;
        let address = address.split('?').next().unwrap_or_default();
        let (address, link) = link_to(address, options).await?;
        self.open_at([url, &format!("{scheme}://{address}")], options, link).await
    }

    /// Opens the arm on replicated servers, without a proxy.
    pub async fn open_replicated(
        self,
        servers: &ReplicatedServers,
        options: ArmOptions<'_>,
    ) -> Result<OpenArm> {
        let (redis, etcd) = (servers.redis.url(), servers.etcd.url());
        let url = if self == Self::OursOnEtcd { etcd } else { &redis };
        self.open_at([url, url], options, Link::Direct).await
    }

    /// Opens the arm with a writer at one URL and an observer at another.
    async fn open_at(
        self,
        [direct, via]: [&str; 2],
        options: ArmOptions<'_>,
        link: Link,
    ) -> Result<OpenArm> {
        let links = || {
            let writer = RedisLink::new(direct, WRITER_PATIENCE)?;
            anyhow::Ok((writer, RedisLink::new(via, OBSERVER_PATIENCE)?))
        };
        match self {
            Self::Publish => {
                let (writer, observer) = links()?;
                opened(Publish::<false>(writer), Publish::<false>(observer), options, link)
            }
            Self::PublishAndReread => {
                let (writer, observer) = links()?;
                opened(Publish::<true>(writer), Publish::<true>(observer), options, link)
            }
            Self::Keyspace => {
                let (writer, observer) = links()?;
                opened(Keyspace(writer), Keyspace(observer), options, link)
            }
            Self::PlainEtcd => {
                let [writer, observer] = [direct, via].map(|url| url.replace("etcd://", "http://"));
                let writer = RawEtcd::connect(&writer).await?;
                opened(writer, RawEtcd::connect(&observer).await?, options, link)
            }
            Self::OursOnRedis | Self::OursOnEtcd | Self::OursInMemory => {
                let writer = Ours::from(connect(direct).await?);
                let writer = match Operator::of(direct).await? {
                    Some(operator) => writer.with_operator(operator),
                    None => writer,
                };
                opened(writer, Ours::from(connect(via).await?), options, link)
            }
        }
    }

    /// Returns the arm for a workload.
    pub async fn contender(self, servers: &Servers) -> Result<Box<dyn Contender>> {
        Ok(match self {
            Self::OursInMemory => Box::new(Ours::new(MemRegistry::new())),
            Self::Keyspace => {
                Box::new(Keyspace(RedisLink::new(self.url(servers)?, WRITER_PATIENCE)?))
            }
            Self::OursOnRedis | Self::OursOnEtcd => {
                Box::new(Ours::from(connect(self.url(servers)?).await?))
            }
            _ => bail!("{} is not compared in a workload", self.name()),
        })
    }

    fn url(self, servers: &Servers) -> Result<&str> {
        if matches!(self, Self::PlainEtcd | Self::OursOnEtcd) {
            return Ok(servers.etcd.as_ref().context("etcd does not take part")?.url());
        }
        Ok(servers.redis.url())
    }
}

impl Servers {
    /// Starts them, or connects to those that the environment names.
    pub async fn start(at: StoreOptions) -> Result<Self> {
        Ok(Self {
            etcd: Some(Etcd::start_with(at.etcd).await?),
            redis: Redis::start_with(at.redis).await?,
        })
    }

    /// Describes the servers: their versions, and how they persist a write.
    pub async fn describe(&mut self) -> Result<Vec<String>> {
        let mut descriptions = vec![describe_redis(&mut self.redis).await?];
        if let Some(etcd) = &mut self.etcd {
            descriptions.push(describe_etcd(etcd).await?);
        }
        Ok(descriptions)
    }
}
