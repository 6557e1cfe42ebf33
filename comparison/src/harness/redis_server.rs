//! A Redis, and what it counts.

use super::stores::describe_redis;
use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo};
use registry_redis::RedisRegistry;
use registry_testbed::servers::Redis;

/// The prefix of the registry's keys, and of those that the raw client writes.
pub const OURS: &str = "figures-ours";
pub const RAW: &str = "figures-raw_";

/// A Redis.
pub struct RedisServer {
    pub redis: Redis,
    /// Its version, and what it does with a write.
    pub description: String,
}

impl RedisServer {
    /// Finds or starts one.
    pub async fn start() -> Result<Self> {
        let mut redis = Redis::start().await?;
        let description = describe_redis(&mut redis).await?;
        Ok(Self { redis, description })
    }

    /// The registry, on connections of its own.
    pub async fn registry(&self) -> Result<RedisRegistry> {
        let url = format!("{}?prefix={OURS}", self.redis.url());
        Ok(RedisRegistry::connect(&url.parse()?).await?)
    }

    /// The raw client, on a connection set up as the registry's is.
    pub async fn connection(&self) -> Result<MultiplexedConnection> {
        let info = self.redis.url().into_connection_info()?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = Client::open(info)?;
        Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
    }

    /// What it counts at this moment.
    pub async fn counts(&self) -> Result<Counts> {
        let mut connection = self.connection().await?;
        let mut info = String::new();
        for section in ["commandstats", "cpu", "memory"] {
            let text: String = redis::cmd("INFO").arg(section).query_async(&mut connection).await?;
            info.push_str(&text);
        }
        let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await?;
        Ok(Counts { info, clients })
    }
}

/// What a server counts.
pub struct Counts {
    info: String,
    clients: String,
}

impl Counts {
    /// How many scripts it ran.
    pub fn scripts(&self) -> Result<f64> {
        let Some(calls) = self.field("cmdstat_evalsha:calls=") else { return Ok(0.0) };
        Ok(calls.split(',').next().unwrap_or_default().parse()?)
    }

    /// How many microseconds they took.
    pub fn script_time(&self) -> Result<f64> {
        let Some(calls) = self.field("cmdstat_evalsha:calls=") else { return Ok(0.0) };
        let time = calls.split(',').find_map(|field| field.strip_prefix("usec="));
        Ok(time.context("it counts no time of scripts")?.parse()?)
    }

    /// The seconds that it ran for.
    pub fn cpu(&self) -> Result<f64> {
        let mut sum = 0.0;
        for field in ["used_cpu_user:", "used_cpu_sys:"] {
            let seconds: f64 = self.field(field).context("it counts no seconds")?.parse()?;
            sum += seconds;
        }
        Ok(sum)
    }

    /// The bytes that it holds.
    pub fn memory(&self) -> Result<f64> {
        Ok(self.field("used_memory:").context("it counts no memory")?.parse()?)
    }

    /// How many connections registries have to it.
    pub fn connections(&self) -> usize {
        self.clients.lines().filter(|line| line.contains(" name=registry")).count()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_end)
    }
}
