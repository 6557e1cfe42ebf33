//! A Redis server and its counters.

use super::etcd_server::REGISTRY_PREFIX;
use super::levels::placement;
use crate::arms::RawRedis;
use crate::arms::redis::connect;
use anyhow::{Context, Result};
use registry_redis::RedisRegistry;
use registry_testbed::servers::{Redis, ServerOptions};
use std::collections::HashMap;

pub struct RedisServer {
    pub redis: Redis,
    /// The version, and how the server persists a write.
    pub description: String,
}

impl RedisServer {
    /// Connects to the Redis that the environment names, or starts one.
    pub async fn start() -> Result<Self> {
        Self::start_with(Redis::options()).await
    }

    pub async fn start_with(options: ServerOptions) -> Result<Self> {
        let mut redis = Redis::start_with(options).await?;
        let description = describe(&mut redis).await?;
        Ok(Self { redis, description })
    }

    pub async fn registry(&self) -> Result<RedisRegistry> {
        let url = format!("{}?prefix={REGISTRY_PREFIX}", bare(self.redis.url()));
        Ok(RedisRegistry::connect(&url.parse()?).await?)
    }

    pub async fn raw(&self) -> Result<RawRedis> {
        RawRedis::connect(bare(self.redis.url())).await
    }

    pub async fn counts(&self) -> Result<Counts> {
        let mut pipe = redis::pipe();
        pipe.cmd("INFO").arg("commandstats").cmd("INFO").arg("cpu").cmd("CLIENT").arg("LIST");
        let (commands, cpu, clients): (String, String, String) =
            pipe.query_async(&mut connect(bare(self.redis.url())).await?).await?;
        Ok(Counts { info: commands + &cpu, clients })
    }
}

/// The counters of a server.
pub struct Counts {
    info: String,
    clients: String,
}

impl Counts {
    /// Returns how many scripts ran, and their total time in microseconds.
    pub fn scripts(&self) -> Result<[f64; 2]> {
        let Some(scripts) = self.field("cmdstat_evalsha:") else { return Ok([0.0; 2]) };
        let count = |name| scripts.split(',').find_map(|field| field.strip_prefix(name));
        let (calls, micros) = (count("calls="), count("usec="));
        let (calls, micros) = calls.zip(micros).context("Redis does not count scripts")?;
        Ok([calls.parse()?, micros.parse()?])
    }

    pub fn cpu(&self) -> Result<f64> {
        let field = |name| self.field(name).context("Redis reports no CPU time");
        let user: f64 = field("used_cpu_user:")?.parse()?;
        let system: f64 = field("used_cpu_sys:")?.parse()?;
        Ok(user + system)
    }

    /// Returns the number of connections of registries.
    pub fn connections(&self) -> usize {
        self.clients.lines().filter(|line| line.contains(" name=registry")).count()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_end)
    }
}

/// Returns a URL without the registry's options, for the raw client.
pub fn bare(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

async fn describe(redis: &mut Redis) -> Result<String> {
    let mut pipe = redis::pipe();
    pipe.cmd("INFO").arg("server");
    pipe.cmd("CONFIG").arg("GET").arg("append*");
    pipe.cmd("CONFIG").arg("GET").arg("save");
    let (info, append, save): (String, HashMap<String, String>, HashMap<String, String>) =
        pipe.query_async(&mut connect(bare(redis.url())).await?).await?;
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name));
    let version = match field("valkey_version:") {
        Some(version) => format!("valkey {version}"),
        None => format!("redis {}", field("redis_version:").unwrap_or("of unknown version")),
    };
    let setting = |all: &HashMap<_, String>, name| all.get(name).cloned().unwrap_or_default();
    let log = match setting(&append, "appendonly").as_str() {
        "yes" => format!("append-only file, fsync {}", setting(&append, "appendfsync")),
        _ => "no append-only file".to_owned(),
    };
    let snapshots = if setting(&save, "save").is_empty() { "no snapshots" } else { "snapshots" };
    let placement = redis.process().map_or_else(|_| "external server", |it| placement(it));
    Ok(format!("{version}, {log}, {snapshots}, {placement}"))
}
