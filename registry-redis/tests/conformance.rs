//! The Redis store, held to the contract on a real server of its own for each scenario.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use registry_core::{InstanceId, Lease, LeaseId, Registry, ServiceName};
use registry_redis::RedisRegistry;
use registry_testkit::proxy::Proxy;
use registry_testkit::servers::Redis;
use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

fn main() -> ExitCode {
    let traits = Traits::server(Duration::from_secs(2), Duration::from_millis(100));
    conformance(traits.with_eviction_at_one_revision(false), open)
}

struct Server {
    redis: Mutex<Redis>,
    proxy: Proxy,
    registry: RedisRegistry,
    /// Not through the proxy, since what cuts the registry's connections leaves the operator's alone.
    operator: RedisRegistry,
    backup: TempDir,
}

async fn open() -> Result<Arc<dyn Subject>, String> {
    let redis = Redis::start().await.map_err(|error| error.to_string())?;
    let proxy = Proxy::start(redis.address().parse().unwrap()).await.unwrap();
    let url = format!("redis://{}?prefix=test", proxy.address());
    let registry = RedisRegistry::connect(&url.parse().unwrap()).await.unwrap();
    let url = format!("{}?prefix=test", redis.url());
    let operator = RedisRegistry::connect(&url.parse().unwrap()).await.unwrap();
    let backup = TempDir::new().unwrap();
    Ok(Arc::new(Server { redis: Mutex::new(redis), proxy, registry, operator, backup }))
}

impl Server {
    async fn connection(&self) -> MultiplexedConnection {
        let url = self.redis.lock().await.url().to_owned();
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
    }

    /// Lets the instances of `service` that `which` picks expire now.
    async fn expire(&self, service: &ServiceName, which: impl Fn(&str) -> bool) -> usize {
        let mut redis = self.connection().await;
        let members: Vec<String> = redis.zrange(key(service, "exp"), 0, -1).await.unwrap();
        let own = format!("{service}\u{1f}");
        let mut expired = 0;
        for member in members.iter().filter(|member| member.starts_with(&own) && which(member)) {
            let _: usize = redis.zadd(key(service, "exp"), member, 0).await.unwrap();
            expired += 1;
        }
        self.operator.load(service).await.unwrap(); // whoever touches it finds them due
        expired
    }
}

#[async_trait]
impl Subject for Server {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.registry.clone())
    }

    async fn compact(&self, service: &ServiceName) {
        let trim = redis::cmd("XTRIM").arg(key(service, "log")).arg("MAXLEN").arg(0).to_owned();
        let _: usize = trim.query_async(&mut self.connection().await).await.unwrap();
    }

    async fn revoke(&self, lease: &Lease) {
        let service = lease.instance().service();
        let held: Option<String> = self
            .connection()
            .await
            .hget(key(service, "lease"), lease.id().to_string())
            .await
            .unwrap();
        if let Some(held) = held {
            assert_eq!(self.expire(service, |member| member == held).await, 1);
        }
    }

    async fn evict(&self, service: &ServiceName) {
        assert!(self.expire(service, |_| true).await > 0, "nothing was evicted");
    }

    async fn poison(&self, service: &ServiceName, id: &InstanceId) {
        let mut redis = self.connection().await;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await.unwrap();
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap();
        let script = concat!(
            include_str!("../src/scripts/head.lua"),
            include_str!("../src/scripts/register.lua")
        );
        let keys =
            ["meta", "inst", "idx", "lease", "exp", "svc", "log"].map(|name| key(service, name));
        let member = format!("{service}\u{1f}{id}");
        let lease = LeaseId::random().to_string();
        let args =
            [run_id, "10000", &member, &lease, "600000", "1", "{\"v\":1,", "00000000000000aa"];
        let (status, _): (String, String) = redis::Script::new(script)
            .key(&keys)
            .arg(&args)
            .invoke_async(&mut redis)
            .await
            .unwrap();
        assert_eq!(status, "OK");
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    async fn cut(&self) {
        self.proxy.cut();
    }

    async fn backup(&self) {
        let _: () = redis::cmd("SAVE").query_async(&mut self.connection().await).await.unwrap();
        let mut redis = self.redis.lock().await;
        let dump = redis.process().unwrap().data_dir().join("dump.rdb");
        std::fs::copy(dump, self.backup.path().join("dump.rdb")).unwrap();
    }

    async fn restore(&self) {
        let mut redis = self.redis.lock().await;
        let process = redis.process().unwrap();
        process.kill().unwrap();
        process.wipe().unwrap();
        std::fs::copy(self.backup.path().join("dump.rdb"), process.data_dir().join("dump.rdb"))
            .unwrap();
        process.restart().await.unwrap();
    }
}

/// A key of the shard of `service`: FNV-1a of its name, modulo 16, as the layout says.
fn key(service: &ServiceName, name: &str) -> String {
    let hash = service.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{{test/{:02}}}:{name}", hash % 16)
}
