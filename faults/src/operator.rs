//! An operator: deletes records of the store by hand.

use crate::servers::Servers;
use crate::stage::SERVICE;
use crate::topology::Store;
use anyhow::{Result, bail, ensure};
use etcd_client::{Client, DeleteOptions, GetOptions};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use registry_core::{InstanceId, LeaseId};
use std::time::Duration;

/// The key with the records of the shard of the service on Redis.
const STATE: &str = "{registry/15}:state";

/// A direct connection to the store.
pub(crate) enum Operator {
    Etcd(Box<Client>),
    Redis(MultiplexedConnection),
}

impl Operator {
    /// Connects to the servers directly.
    pub(crate) async fn connect(servers: &Servers) -> Result<Self> {
        let addresses = servers.addresses()?;
        Ok(match servers {
            Servers::Etcd(_) | Servers::EtcdThree(_) => {
                let endpoints: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                Self::Etcd(Box::new(Client::connect(endpoints, None).await?))
            }
            Servers::Redis(_) => Self::Redis(redis_at(&addresses[0].to_string()).await?),
            Servers::Sentinel(_) | Servers::Cluster(_) => {
                bail!("there is no operator for replicated servers")
            }
        })
    }

    pub(crate) fn store(&self) -> Store {
        match self {
            Self::Etcd(_) => Store::Etcd,
            Self::Redis(_) => Store::Redis,
        }
    }

    /// Deletes a record.
    ///
    /// # Errors
    ///
    /// If there is no such record.
    pub(crate) async fn delete(&mut self, id: &InstanceId, lease: LeaseId) -> Result<()> {
        let deleted = match self {
            Self::Etcd(client) => client.delete(key(id), None).await?.deleted(),
            Self::Redis(redis) => {
                let fields = [member(id), lease.get().to_string()];
                redis::cmd("HDEL").arg(STATE).arg(&fields).query_async::<i64>(redis).await? / 2
            }
        };
        ensure!(deleted == 1, "no effect: {deleted} records were deleted, id=`{id}`");
        Ok(())
    }

    /// Deletes all records, and returns the number of deleted keys.
    pub(crate) async fn wipe(&mut self) -> Result<i64> {
        let deleted = match self {
            Self::Etcd(client) => {
                let all = DeleteOptions::new().with_prefix();
                client.delete(format!("registry/{SERVICE}/"), Some(all)).await?.deleted()
            }
            Self::Redis(redis) => {
                let keys = ["state", "idx", "exp", "log"].map(|key| STATE.replace("state", key));
                redis::cmd("DEL").arg(&keys).query_async(redis).await?
            }
        };
        ensure!(deleted > 0, "no effect: nothing was deleted");
        Ok(deleted)
    }

    /// Returns whether an instance has a record.
    pub(crate) async fn has(&mut self, id: &InstanceId) -> Result<bool> {
        Ok(match self {
            Self::Etcd(client) => {
                let count = GetOptions::new().with_count_only();
                client.get(key(id), Some(count)).await?.count() > 0
            }
            Self::Redis(redis) => {
                redis::cmd("HEXISTS").arg(STATE).arg(member(id)).query_async(redis).await?
            }
        })
    }
}

/// Connects to Redis directly.
pub(crate) async fn redis_at(address: &str) -> Result<MultiplexedConnection> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let client = redis::Client::open(format!("redis://{address}"))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}

fn key(id: &InstanceId) -> String {
    format!("registry/{SERVICE}/{id}")
}

fn member(id: &InstanceId) -> String {
    format!("{SERVICE}\u{1f}{id}")
}
