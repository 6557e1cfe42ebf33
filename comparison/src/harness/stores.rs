//! Which stores are compared, and the servers they run on.

use super::levels;
use super::operator::Operator;
use crate::arms::{Ours, RawEtcd, RawRedis};
use crate::workloads::Contender;
use anyhow::{Context, Error, Result};
use registry_core::Registry;
use registry_etcd::EtcdRegistry;
use registry_mem::MemRegistry;
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Etcd, Process, Redis, ServerError, ServerOptions};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::{fmt, fs};

/// The environment variable that names the stores to compare, separated by commas.
pub const VARIABLE: &str = "BENCH_STORES";

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Store {
    /// The memory of this process.
    Mem,
    /// One etcd.
    Etcd,
    /// One Redis.
    Redis,
}

impl Store {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Mem, Self::Etcd, Self::Redis];

    /// What [`VARIABLE`] calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mem => "mem",
            Self::Etcd => "etcd",
            Self::Redis => "redis",
        }
    }

    /// Whether there is a raw client to compare with.
    pub fn has_raw(self) -> bool {
        self != Self::Mem
    }

    /// The stores that a value of [`VARIABLE`] names; without one, all.
    pub fn chosen(value: Option<&str>) -> Result<Vec<Self>> {
        let Some(names) = value.filter(|value| !value.is_empty()) else {
            return Ok(Self::ALL.to_vec());
        };
        let store = |name: &str| {
            let store = Self::ALL.into_iter().find(|store| store.name() == name.trim());
            store
                .with_context(|| format!("{VARIABLE} lists some of mem, etcd, redis, got `{name}`"))
        };
        let names: BTreeSet<Self> = names.split(',').map(store).collect::<Result<_>>()?;
        Ok(names.into_iter().collect())
    }
}

/// How to find or start the servers.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub etcd: ServerOptions,
    pub redis: ServerOptions,
}

/// Connects to the store at a URL.
pub async fn connect(url: &str) -> Result<Arc<dyn Registry>> {
    Ok(if url.starts_with("etcd") {
        Arc::new(EtcdRegistry::connect(&url.parse()?).await?)
    } else {
        Arc::new(RedisRegistry::connect(&url.parse()?).await?)
    })
}

/// Returns the options of a server that is started, with these arguments, whatever the environment says.
pub fn own(options: &ServerOptions, arguments: &[&str]) -> ServerOptions {
    let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
    ServerOptions { url: None, arguments, ..options.clone() }
}

impl Default for StoreOptions {
    /// As the environment says.
    fn default() -> Self {
        Self { etcd: Etcd::options(), redis: Redis::options() }
    }
}

/// A running store, with the registry and the raw client connected to it. Dropping it stops the server.
pub struct StoreFixture {
    pub store: Store,
    /// The server: its version, and how it persists a write.
    pub server: String,
    /// Through the registry.
    pub ours: Box<dyn Contender>,
    /// Through the raw client.
    pub raw: Option<Box<dyn Contender>>,
    _running: Option<Running>,
}

enum Running {
    Etcd { _server: Etcd },
    Redis { _server: Redis },
}

impl StoreFixture {
    /// Finds or starts a server, and connects to it twice. The error of a missing one says in one line how to get
    /// it, and how to do without.
    pub async fn open(store: Store, servers: &StoreOptions) -> Result<Self> {
        match store {
            Store::Mem => Ok(Self::mem()),
            Store::Etcd => Self::etcd(servers.etcd.clone()).await,
            Store::Redis => Self::redis(servers.redis.clone()).await,
        }
    }

    fn mem() -> Self {
        let mem = MemRegistry::new();
        Self {
            store: Store::Mem,
            server: "in this process".to_owned(),
            ours: Box::new(Ours::new(mem.clone()).with_operator(Operator::Memory(mem))),
            raw: None,
            _running: None,
        }
    }

    async fn etcd(options: ServerOptions) -> Result<Self> {
        let mut etcd =
            Etcd::start_with(options).await.map_err(|error| missing(Store::Etcd, error))?;
        let raw = RawEtcd::connect(&etcd.endpoint()).await?;
        let ours = ours(etcd.url()).await?;
        let server = describe_etcd(&mut etcd).await?;
        Ok(Self {
            store: Store::Etcd,
            server,
            ours: Box::new(ours),
            raw: Some(Box::new(raw)),
            _running: Some(Running::Etcd { _server: etcd }),
        })
    }

    async fn redis(options: ServerOptions) -> Result<Self> {
        let mut server =
            Redis::start_with(options).await.map_err(|error| missing(Store::Redis, error))?;
        let raw = RawRedis::connect(bare(&server)).await?;
        let ours = ours(server.url()).await?;
        Ok(Self {
            store: Store::Redis,
            server: describe_redis(&mut server).await?,
            ours: Box::new(ours),
            raw: Some(Box::new(raw)),
            _running: Some(Running::Redis { _server: server }),
        })
    }
}

impl fmt::Debug for StoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreFixture").field("server", &self.server).finish_non_exhaustive()
    }
}

async fn ours(url: &str) -> Result<Ours> {
    let operator = Operator::of(url.split('?').next().unwrap_or_default()).await?;
    let operator = operator.context("a store at one URL has an operator")?;
    Ok(Ours::from(connect(url).await?).with_operator(operator))
}

/// Returns the error for a missing store, with how to run without it.
fn missing(store: Store, error: ServerError) -> Error {
    let others: Vec<_> = Store::ALL.into_iter().filter(|other| *other != store).collect();
    let others = others.iter().map(|other| other.name()).collect::<Vec<_>>().join(",");
    let without = format!("{} is missing (to go on without it: {VARIABLE}={others})", store.name());
    Error::new(error).context(without)
}

/// Describes a Redis: its version, and how it persists a write.
pub async fn describe_redis(redis: &mut Redis) -> Result<String> {
    let description = RawRedis::connect(bare(redis)).await?.describe().await?;
    Ok(match redis.process() {
        Ok(process) => format!("{description}, {}", placement(process)),
        Err(_) => description,
    })
}

/// Describes an etcd: its version, and how it persists a write.
pub async fn describe_etcd(etcd: &mut Etcd) -> Result<String> {
    let version = RawEtcd::connect(&etcd.endpoint()).await?.version().await?;
    Ok(match etcd.process() {
        Ok(process) => format!("etcd {version}, {}", durability(process)),
        Err(_) => format!("etcd {version}, an external server: its persistence is unknown"),
    })
}

/// Returns the URL without the registry's options, for the raw client.
fn bare(redis: &Redis) -> &str {
    redis.url().split('?').next().unwrap_or_default()
}

/// The description of an etcd that syncs its writes to disk before it acknowledges them.
pub(crate) const SYNCS: &str = "fsync at every commit";

/// Returns how an etcd that this process started persists a write.
pub fn durability(process: &Process) -> String {
    let line =
        process.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok());
    let syncs = match line {
        Some(line) if line.contains("--unsafe-no-fsync") => "no fsync",
        Some(_) => SYNCS,
        None => "fsync unknown",
    };
    format!("{syncs}, {}", placement(process))
}

/// Returns where a server that this process started keeps its data.
fn placement(process: &Process) -> &'static str {
    let in_memory = levels::is_in_memory(&process.data_dir()) == Some(true);
    if in_memory { "data in memory" } else { "data on a disk" }
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
        let nowhere = |options| ServerOptions { url: None, path: None, ..options };
        let nowhere =
            StoreOptions { etcd: nowhere(Etcd::options()), redis: nowhere(Redis::options()) };
        for (store, others) in [(Store::Etcd, "mem,redis"), (Store::Redis, "mem,etcd")] {
            let error = StoreFixture::open(store, &nowhere).await.unwrap_err();
            let line = format!("{error:#}");
            assert!(line.starts_with(&format!("{} is missing", store.name())), "{line}");
            assert!(line.contains(&format!("BENCH_STORES={others}")), "{line}");
            assert!(line.contains("PATH") && !line.contains('\n'), "{line}");
        }
        assert!(StoreFixture::open(Store::Mem, &nowhere).await.is_ok());
    }
}
