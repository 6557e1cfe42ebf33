//! The servers that a schedule runs against.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of servers, and their replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Topology {
    /// An etcd of one member.
    #[value(name = "one")]
    Etcd,
    /// An etcd of three members.
    #[value(name = "three")]
    EtcdThree,
    /// A Redis without replicas.
    #[value(name = "standalone")]
    Redis,
    /// A primary, two replicas and three sentinels.
    Sentinel,
    /// A Redis Cluster of three primaries with a replica each.
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Store {
    Etcd,
    Redis,
}

impl Topology {
    pub(crate) const ALL: [Self; 5] =
        [Self::Etcd, Self::EtcdThree, Self::Redis, Self::Sentinel, Self::Cluster];

    pub(crate) fn store(self) -> Store {
        match self {
            Self::Etcd | Self::EtcdThree => Store::Etcd,
            Self::Redis | Self::Sentinel | Self::Cluster => Store::Redis,
        }
    }
}

/// The name on the command line.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Etcd => "one",
            Self::EtcdThree => "three",
            Self::Redis => "standalone",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        })
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        })
    }
}
