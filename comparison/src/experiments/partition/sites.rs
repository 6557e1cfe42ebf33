//! Servers that stand in for each other, of which the one that takes writes can be cut off.

use crate::stores::Where;
use anyhow::Result;
use registry_testbed::servers::{EtcdCluster, RedisCluster, RedisSentinel, ServerOptions};
use serde::Serialize;

/// How servers stand in for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum System {
    /// A primary, two replicas and three sentinels.
    Sentinel,
    /// The same, with `min-replicas-to-write 1`.
    SentinelWithReplicas,
    /// A Redis Cluster of three primaries with a replica each.
    Cluster,
    /// An etcd of three members.
    Etcd,
}

/// Such servers, running.
pub(super) enum Site {
    Sentinel(RedisSentinel),
    Cluster(Box<RedisCluster>),
    Etcd(Box<EtcdCluster>),
}

impl System {
    pub(super) const ALL: [Self; 4] =
        [Self::Sentinel, Self::SentinelWithReplicas, Self::Cluster, Self::Etcd];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sentinel => "Sentinel",
            Self::SentinelWithReplicas => "Sentinel, min-replicas 1",
            Self::Cluster => "Redis Cluster",
            Self::Etcd => "etcd, three members",
        }
    }
}

impl Site {
    /// A key of the shard of the [service](super::clients::SERVICE) that is registered.
    const KEY: &str = "{registry/15}:log";

    pub(super) async fn start(system: System, at: &Where) -> Result<Self> {
        let own = |options: &ServerOptions, arguments: &[&str]| ServerOptions {
            url: None,
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            ..options.clone()
        };
        Ok(match system {
            System::Sentinel => {
                Self::Sentinel(RedisSentinel::start_with(own(&at.redis, &[])).await?)
            }
            System::SentinelWithReplicas => {
                let wants = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];
                Self::Sentinel(RedisSentinel::start_with(own(&at.redis, &wants)).await?)
            }
            System::Cluster => Self::Cluster(Box::new(
                RedisCluster::start_partitionable(own(&at.redis, &[])).await?,
            )),
            System::Etcd => {
                Self::Etcd(Box::new(EtcdCluster::start_with(own(&at.etcd, &[])).await?))
            }
        })
    }

    /// The one that takes writes.
    pub(super) async fn first(&self) -> Result<usize> {
        Ok(match self {
            Self::Sentinel(servers) => servers.primary().await?,
            Self::Cluster(nodes) => nodes.owner(Self::KEY).await?,
            Self::Etcd(members) => members.leader().await?,
        })
    }

    /// Cuts one off from all others and from their clients. Returns when another has taken over from it.
    pub(super) async fn cut_off(&mut self, one: usize) -> Result<()> {
        match self {
            Self::Sentinel(servers) => {
                servers.cut_off(one);
                servers.cut_off_clients(one);
                servers.successor_of(one).await?;
            }
            Self::Cluster(nodes) => {
                nodes.cut_off(one);
                nodes.successor_of(one, Self::KEY).await?;
            }
            Self::Etcd(members) => members.partition(one).await?,
        }
        Ok(())
    }

    /// Ends that. Returns when it follows the one that took over.
    pub(super) async fn heal(&mut self, one: usize) -> Result<()> {
        match self {
            Self::Sentinel(servers) => {
                servers.heal();
                servers.rejoined(one).await?;
            }
            Self::Cluster(nodes) => {
                nodes.heal();
                nodes.rejoined(one).await?;
            }
            Self::Etcd(members) => members.heal().await?,
        }
        Ok(())
    }

    /// The URL of the store for who is cut off with that one.
    pub(super) fn alone(&self, one: usize) -> String {
        match self {
            Self::Sentinel(servers) => format!("redis://{}", servers.address(one)),
            Self::Cluster(nodes) => format!("redis://{}", nodes.address(one)),
            Self::Etcd(members) => members.endpoint(one).replace("http://", "etcd://"),
        }
    }

    /// The URL of the store for all who are not.
    pub(super) fn others(&self, one: usize) -> String {
        match self {
            Self::Sentinel(servers) => servers.url(),
            Self::Cluster(nodes) => nodes.url(),
            Self::Etcd(members) => {
                let others = (0..3).filter(|member| *member != one);
                let others = others.map(|member| members.endpoint(member).replace("http://", ""));
                format!("etcd://{}", others.collect::<Vec<_>>().join(","))
            }
        }
    }
}
