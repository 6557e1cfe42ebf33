//! The stores that are compared, and their servers.

use super::{EtcdServer, RedisServer};
use crate::arms::Ours;
use crate::workloads::Contender;
use anyhow::{Context, Result, bail};
use registry_core::Registry;
use registry_etcd::EtcdRegistry;
use registry_mem::MemRegistry;
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Etcd, Process, Redis, ServerOptions};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The environment variable that names the stores to compare, separated by commas.
pub const VARIABLE: &str = "BENCH_STORES";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// The memory of this process.
    Mem,
    Etcd,
    Redis,
}

impl Store {
    pub const ALL: [Self; 3] = [Self::Mem, Self::Etcd, Self::Redis];

    /// Returns the name in [`VARIABLE`].
    pub fn name(self) -> &'static str {
        match self {
            Self::Mem => "mem",
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        }
    }

    /// Returns the stores that a value of [`VARIABLE`] names, or all without a value.
    pub fn chosen(value: Option<&str>) -> Result<Vec<Self>> {
        let Some(names) = value.filter(|value| !value.is_empty()) else {
            return Ok(Self::ALL.to_vec());
        };
        let store = |name: &str| {
            let store = Self::ALL.into_iter().find(|store| store.name() == name.trim());
            store.with_context(|| {
                format!("{VARIABLE} names `{name}`, but there are mem, etcd, redis")
            })
        };
        let names: BTreeSet<Self> = names.split(',').map(store).collect::<Result<_>>()?;
        Ok(names.into_iter().collect())
    }
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub etcd: ServerOptions,
    pub redis: ServerOptions,
}

pub async fn connect(url: &str) -> Result<Arc<dyn Registry>> {
    Ok(if url.starts_with("etcd") {
        Arc::new(EtcdRegistry::connect(&url.parse()?).await?)
    } else {
        Arc::new(RedisRegistry::connect(&url.parse()?).await?)
    })
}

/// Returns options to start a server with these arguments, even if the environment names one.
pub fn own(options: &ServerOptions, arguments: &[&str]) -> ServerOptions {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    ServerOptions { url: None, arguments, ..options.clone() }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { etcd: Etcd::options(), redis: Redis::options() }
    }
}

/// A running store. Drop stops a server that this process started.
pub enum Server {
    Mem(MemRegistry),
    Etcd(Box<EtcdServer>),
    Redis(Box<RedisServer>),
}

impl Server {
    /// Connects to the server that the environment names, or starts one.
    pub async fn start(store: Store) -> Result<Self> {
        Self::start_with(store, &StoreOptions::default()).await
    }

    /// Connects to a server or starts one. The error for a missing server says how to install it or leave it out.
    pub async fn start_with(store: Store, options: &StoreOptions) -> Result<Self> {
        let started = match store {
            Store::Mem => Ok(Self::Mem(MemRegistry::new())),
            Store::Etcd => EtcdServer::start_with(options.etcd.clone())
                .await
                .map(|server| Self::Etcd(Box::new(server))),
            Store::Redis => RedisServer::start_with(options.redis.clone())
                .await
                .map(|server| Self::Redis(Box::new(server))),
        };
        started.with_context(|| {
            let others = Store::ALL.into_iter().filter(|other| *other != store);
            let others = others.map(Store::name).collect::<Vec<_>>().join(",");
            format!("{} is missing (to leave it out, set {VARIABLE}={others})", store.name())
        })
    }

    pub fn store(&self) -> Store {
        match self {
            Self::Mem(_) => Store::Mem,
            Self::Etcd(_) => Store::Etcd,
            Self::Redis(_) => Store::Redis,
        }
    }

    /// Returns the version, and how the store persists a write.
    pub fn description(&self) -> &str {
        match self {
            Self::Mem(_) => "in this process",
            Self::Etcd(server) => &server.description,
            Self::Redis(server) => &server.description,
        }
    }

    pub fn url(&self) -> &str {
        match self {
            Self::Mem(_) => "mem://",
            Self::Etcd(server) => server.etcd.url(),
            Self::Redis(server) => server.redis.url(),
        }
    }

    pub async fn registry(&self) -> Result<Arc<dyn Registry>> {
        Ok(match self {
            Self::Mem(registry) => Arc::new(registry.clone()),
            Self::Etcd(server) => Arc::new(server.registry().await?),
            Self::Redis(server) => Arc::new(server.registry().await?),
        })
    }

    pub async fn ours(&self) -> Result<Box<dyn Contender>> {
        Ok(Box::new(Ours::new(self.registry().await?)))
    }

    /// Connects the raw client arm. Memory has none.
    pub async fn raw(&self) -> Result<Option<Box<dyn Contender>>> {
        Ok(match self {
            Self::Mem(_) => None,
            Self::Etcd(server) => Some(Box::new(server.raw().await?)),
            Self::Redis(server) => Some(Box::new(server.raw().await?)),
        })
    }

    /// Returns the CPU time of the server in seconds, or 0 for memory, which shares this process.
    pub async fn cpu(&self) -> Result<f64> {
        match self {
            Self::Mem(_) => Ok(0.0),
            Self::Etcd(server) => server.metrics().await?.cpu(),
            Self::Redis(server) => server.counts().await?.cpu(),
        }
    }

    /// Returns the server's process. Fails if this process did not start it.
    pub fn process(&mut self) -> Result<&mut Process> {
        match self {
            Self::Mem(_) => bail!("memory has no process"),
            Self::Etcd(server) => Ok(server.etcd.process()?),
            Self::Redis(server) => Ok(server.redis.process()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_selected_by_name() {
        assert_eq!(Store::chosen(None).unwrap(), Store::ALL);
        assert_eq!(Store::chosen(Some("")).unwrap(), Store::ALL);
        assert_eq!(Store::chosen(Some("redis, mem,redis")).unwrap(), [Store::Mem, Store::Redis]);
        let error = Store::chosen(Some("mem,zookeeper")).unwrap_err().to_string();
        assert!(error.contains("zookeeper") && error.contains("mem, etcd, redis"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_store_is_named_in_one_line() {
        let unset = |options| ServerOptions { url: None, path: None, ..options };
        let nowhere = StoreOptions { etcd: unset(Etcd::options()), redis: unset(Redis::options()) };
        for (store, others) in [(Store::Etcd, "mem,redis"), (Store::Redis, "mem,etcd")] {
            let error = Server::start_with(store, &nowhere).await.err().unwrap();
            let line = format!("{error:#}");
            assert!(line.starts_with(&format!("{} is missing", store.name())), "{line}");
            assert!(line.contains(&format!("BENCH_STORES={others}")), "{line}");
            assert!(line.contains("PATH") && !line.contains('\n'), "{line}");
        }
        assert!(Server::start_with(Store::Mem, &nowhere).await.is_ok());
    }
}
