//! Replicated servers whose primary or leader can be killed or partitioned.

use crate::harness::StoreOptions;
use crate::harness::stores::own;
use anyhow::Result;
use registry_testbed::servers::{EtcdCluster, Process, RedisCluster, RedisSentinel};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Topology {
    /// A primary, two replicas and three sentinels.
    Sentinel,
    /// The same, with `min-replicas-to-write 1`.
    SentinelWithReplicas,
    /// A Redis Cluster of three primaries with a replica each.
    Cluster,
    /// An etcd of three members.
    Etcd,
}

pub(super) enum Deployment {
    Sentinel(RedisSentinel),
    Cluster(Box<RedisCluster>),
    Etcd(Box<EtcdCluster>),
}

impl Topology {
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

impl Deployment {
    /// A key of the shard of the registered service.
    const KEY: &str = "{registry/15}:log";

    pub(super) async fn start(topology: Topology, at: &StoreOptions) -> Result<Self> {
        let redis = |arguments: &[&str]| own(&at.redis, arguments);
        Ok(match topology {
            Topology::Sentinel => Self::Sentinel(RedisSentinel::start_with(redis(&[])).await?),
            Topology::SentinelWithReplicas => {
                let arguments = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "1"];
                Self::Sentinel(RedisSentinel::start_with(redis(&arguments)).await?)
            }
            Topology::Cluster => {
                Self::Cluster(Box::new(RedisCluster::start_partitionable(redis(&[])).await?))
            }
            Topology::Etcd => {
                Self::Etcd(Box::new(EtcdCluster::start_with(own(&at.etcd, &[])).await?))
            }
        })
    }

    /// Returns the primary or leader.
    pub(super) async fn primary(&self) -> Result<usize> {
        Ok(match self {
            Self::Sentinel(servers) => servers.primary().await?,
            Self::Cluster(nodes) => nodes.owner(Self::KEY).await?,
            Self::Etcd(members) => members.leader().await?,
        })
    }

    /// Waits until another server has taken over from a failed one.
    pub(super) async fn successor_of(&self, one: usize) -> Result<usize> {
        Ok(match self {
            Self::Sentinel(servers) => servers.successor_of(one).await?,
            Self::Cluster(nodes) => nodes.successor_of(one, Self::KEY).await?,
            Self::Etcd(members) => members.leader().await?,
        })
    }

    pub(super) fn kill(&mut self, one: usize) -> Result<()> {
        let process: &mut Process = match self {
            Self::Sentinel(servers) => servers.process(one),
            Self::Cluster(nodes) => nodes.process(one),
            Self::Etcd(members) => members.process(one),
        };
        Ok(process.kill()?)
    }

    /// Partitions one server from all others and their clients. Returns when another has taken over.
    pub(super) async fn isolate(&mut self, one: usize) -> Result<()> {
        match self {
            Self::Sentinel(servers) => {
                servers.cut_off(one);
                servers.cut_off_clients(one);
            }
            Self::Cluster(nodes) => nodes.cut_off(one),
            Self::Etcd(members) => members.partition(one).await?,
        }
        self.successor_of(one).await.map(drop)
    }

    /// Heals the partition. Returns when the isolated server follows the new primary.
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

    pub(super) fn url(&self) -> String {
        match self {
            Self::Sentinel(servers) => servers.url(),
            Self::Cluster(nodes) => nodes.url(),
            Self::Etcd(members) => members.url().to_owned(),
        }
    }

    /// Returns the URLs of the two sides of a partition: of one server, and of all others.
    pub(super) fn sides(&self, one: usize) -> [String; 2] {
        match self {
            Self::Sentinel(servers) => [format!("redis://{}", servers.address(one)), servers.url()],
            Self::Cluster(nodes) => [format!("redis://{}", nodes.address(one)), nodes.url()],
            Self::Etcd(members) => {
                let host = |member| members.endpoint(member).replace("http://", "");
                let others: Vec<_> = (0..3).filter(|member| *member != one).map(host).collect();
                [host(one), others.join(",")].map(|hosts| format!("etcd://{hosts}"))
            }
        }
    }
}
