//! The servers of a topology, and an operator.

#![allow(dead_code)] // each binary uses a part of it

use redis::aio::MultiplexedConnection;
use registry_testbed::servers::{
    Process, Redis, RedisCluster, RedisSentinel, ServerError, ServerOptions,
};
use std::path::Path;

/// The topology of the servers.
#[derive(Clone, Copy)]
pub(crate) enum Topology {
    Standalone,
    Sentinel,
    Cluster,
}

pub(crate) enum Servers {
    Standalone(Redis),
    Sentinel(RedisSentinel),
    Cluster(RedisCluster),
}

impl Topology {
    /// Returns the topology in `REGISTRY_TEST_REDIS_TOPOLOGY`, or standalone if it is not set.
    pub(crate) fn from_env() -> Self {
        match std::env::var("REGISTRY_TEST_REDIS_TOPOLOGY").as_deref() {
            Ok("standalone") | Err(_) => Self::Standalone,
            Ok("sentinel") => Self::Sentinel,
            Ok("cluster") => Self::Cluster,
            Ok(other) => panic!(
                "REGISTRY_TEST_REDIS_TOPOLOGY must be standalone, sentinel or cluster, got=`{other}`"
            ),
        }
    }

    pub(crate) async fn start(self, options: ServerOptions) -> Result<Servers, ServerError> {
        match self {
            Self::Standalone => Redis::start_with(options).await.map(Servers::Standalone),
            Self::Sentinel => RedisSentinel::start_with(options).await.map(Servers::Sentinel),
            Self::Cluster => RedisCluster::start_with(options).await.map(Servers::Cluster),
        }
    }
}

impl Servers {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Standalone(redis) => redis.url().to_owned(),
            Self::Sentinel(servers) => servers.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Returns the address of the server, if there is only one.
    pub(crate) fn address(&self) -> Option<&str> {
        match self {
            Self::Standalone(redis) => Some(redis.address()),
            Self::Sentinel(_) | Self::Cluster(_) => None,
        }
    }

    /// Returns the server that holds `key`. Waits for the end of a failover.
    pub(crate) async fn owner(&self, key: &str) -> usize {
        match self {
            Self::Standalone(_) => 0,
            Self::Sentinel(servers) => servers.primary().await.unwrap(),
            Self::Cluster(cluster) => cluster.owner(key).await.unwrap(),
        }
    }

    /// Waits until a server other than `owner` holds `key`, and returns it.
    pub(crate) async fn successor_of(&self, owner: usize, key: &str) -> usize {
        match self {
            Self::Standalone(_) => unreachable!("it is alone"),
            Self::Sentinel(servers) => servers.successor_of(owner).await.unwrap(),
            Self::Cluster(cluster) => cluster.successor_of(owner, key).await.unwrap(),
        }
    }

    /// Connects an operator to the server that holds `key`.
    pub(crate) async fn connection(&self, key: &str) -> MultiplexedConnection {
        let owner = self.owner(key).await;
        dial(&format!("redis://{}", self.addresses()[owner])).await
    }

    /// Cuts all connections of clients.
    pub(crate) async fn cut(&self) {
        for address in self.addresses() {
            let mut operator = dial(&format!("redis://{address}")).await;
            let kill = redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).to_owned();
            let _: u64 = kill.query_async(&mut operator).await.unwrap();
        }
    }

    pub(crate) async fn back_up_to(&mut self, backup: &Path) {
        for (n, address) in self.addresses().into_iter().enumerate() {
            let mut operator = dial(&format!("redis://{address}")).await;
            let _: () = redis::cmd("SAVE").query_async(&mut operator).await.unwrap();
            self.process(n).copy_data(&backup.join(n.to_string())).unwrap();
        }
    }

    pub(crate) async fn restore_from(&mut self, backup: &Path) {
        for n in 0..self.addresses().len() {
            self.process(n).replace_data(&backup.join(n.to_string())).unwrap();
        }
        match self {
            Self::Standalone(_) | Self::Sentinel(_) => self.process(0).restart().await.unwrap(),
            Self::Cluster(cluster) => cluster.restart_all().await.unwrap(),
        }
    }

    fn addresses(&self) -> Vec<String> {
        match self {
            Self::Standalone(redis) => vec![redis.address().to_owned()],
            Self::Sentinel(servers) => (0..3).map(|n| servers.address(n)).collect(),
            Self::Cluster(cluster) => (0..cluster.nodes()).map(|n| cluster.address(n)).collect(),
        }
    }

    /// Returns the process of a server.
    pub(crate) fn process(&mut self, n: usize) -> &mut Process {
        match self {
            Self::Standalone(redis) => redis.process().unwrap(),
            Self::Sentinel(servers) => servers.process(n),
            Self::Cluster(cluster) => cluster.process(n),
        }
    }

    /// Does the same to the processes of all servers.
    pub(crate) fn each(&mut self, act: impl Fn(&mut Process)) {
        for n in 0..self.addresses().len() {
            act(self.process(n));
        }
    }
}

async fn dial(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}
