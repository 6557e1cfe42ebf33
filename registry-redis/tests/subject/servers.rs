//! The servers, and what an operator does to all of them.

use redis::aio::MultiplexedConnection;
use registry_testkit::servers::{Process, Redis, RedisCluster, ServerError};
use std::path::Path;

/// How the servers stand to each other.
#[derive(Clone, Copy)]
pub(crate) enum Topology {
    Standalone,
    Cluster,
}

pub(crate) enum Servers {
    Standalone(Redis),
    Cluster(RedisCluster),
}

impl Topology {
    pub(crate) async fn start(self) -> Result<Servers, ServerError> {
        match self {
            Self::Standalone => Redis::start().await.map(Servers::Standalone),
            Self::Cluster => RedisCluster::start().await.map(Servers::Cluster),
        }
    }
}

impl Servers {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Standalone(redis) => redis.url().to_owned(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Where the server is, if there is one only.
    pub(crate) fn address(&self) -> Option<&str> {
        match self {
            Self::Standalone(redis) => Some(redis.address()),
            Self::Cluster(_) => None,
        }
    }

    /// An operator's connection to the server that has `key`.
    pub(crate) async fn connection(&self, key: &str) -> MultiplexedConnection {
        match self {
            Self::Standalone(redis) => dial(redis.url()).await,
            Self::Cluster(cluster) => {
                let owner = cluster.owner(key).await.unwrap();
                dial(&format!("redis://{}", cluster.address(owner))).await
            }
        }
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
            Self::Standalone(redis) => redis.process().unwrap().restart().await.unwrap(),
            Self::Cluster(cluster) => cluster.restart_all().await.unwrap(),
        }
    }

    fn addresses(&self) -> Vec<String> {
        match self {
            Self::Standalone(redis) => vec![redis.address().to_owned()],
            Self::Cluster(cluster) => (0..cluster.nodes()).map(|n| cluster.address(n)).collect(),
        }
    }

    fn process(&mut self, n: usize) -> &mut Process {
        match self {
            Self::Standalone(redis) => redis.process().unwrap(),
            Self::Cluster(cluster) => cluster.process(n),
        }
    }
}

async fn dial(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}
