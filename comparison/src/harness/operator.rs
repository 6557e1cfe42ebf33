//! The operator of a store: what clients cannot do.

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use registry_core::{CallOptions, Registry, ServiceName};
use registry_mem::MemRegistry;

/// How many shards a prefix of the registry on Redis has.
const SHARDS: u8 = 16;

/// Can compact the history of the registry's store.
#[derive(Clone)]
pub enum Operator {
    /// Of a Redis, where the registry uses the default prefix.
    Redis(MultiplexedConnection),
    /// Of an etcd.
    Etcd(Box<etcd_client::Client>),
    /// Of the memory of this process.
    Memory(MemRegistry),
}

impl Operator {
    /// Of the store at a URL; `None` for replicated servers.
    pub async fn of(url: &str) -> Result<Option<Self>> {
        Ok(match url.split_once("://").context("a URL without a scheme")? {
            ("redis", _) => {
                let client = redis::Client::open(url)?;
                Some(Self::Redis(client.get_multiplexed_async_connection().await?))
            }
            ("etcd", address) if !address.contains(',') => {
                let client = etcd_client::Client::connect([format!("http://{address}")], None);
                Some(Self::Etcd(Box::new(client.await?)))
            }
            _ => None,
        })
    }

    /// Compacts all changes until now. Registrations stay. A store that compacts by revision needs any service,
    /// to read the latest revision.
    pub async fn compact(&mut self, any: &ServiceName) -> Result<()> {
        match self {
            Self::Redis(redis) => {
                let log = |shard| format!("{{registry/{shard:02}}}:log");
                trim(redis, (0..SHARDS).map(log)).await
            }
            Self::Etcd(etcd) => compact(etcd).await,
            Self::Memory(registry) => {
                let now = registry.load(any, &CallOptions::DEFAULT).await?.cursor().revision();
                registry.compact(now);
                Ok(())
            }
        }
    }
}

/// Trims streams to nothing. They still know the last id.
pub(crate) async fn trim(
    redis: &mut MultiplexedConnection,
    logs: impl Iterator<Item = String>,
) -> Result<()> {
    let mut pipe = redis::pipe();
    for log in logs {
        pipe.cmd("XTRIM").arg(log).arg("MAXLEN").arg(0).ignore();
    }
    Ok(pipe.exec_async(redis).await?)
}

/// Compacts an etcd at its newest revision.
pub(crate) async fn compact(etcd: &mut etcd_client::Client) -> Result<()> {
    let any = etcd.get("any", None).await?;
    let now = any.header().context("an answer without a header")?.revision();
    etcd.compact(now, None).await?;
    Ok(())
}
