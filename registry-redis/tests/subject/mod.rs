//! A Redis for the conformance kit, and an operator.

#![allow(dead_code)] // each binary uses a part of it

mod servers;

pub(crate) use self::servers::Topology;

use self::servers::Servers;
use crate::shard::{key, make_due};
use async_trait::async_trait;
use redis::AsyncCommands;
use registry_core::{ErrorKind, InstanceId, Lease, LeaseId, Registry, ServiceName};
use registry_redis::RedisRegistry;
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::Redis;
use registry_testkit::lag::timeout;
use registry_testkit::{ReplyLoss, Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Runs the conformance kit, with servers of their own for each scenario.
pub(crate) fn run(topology: Topology) -> ExitCode {
    let traits = Traits::server(Duration::from_secs(2), Duration::from_millis(100));
    let mut traits = traits.with_eviction_at_one_revision(false);
    // The nodes of a Cluster name their own addresses, so that clients bypass a proxy.
    traits.remote = matches!(topology, Topology::Standalone);
    conformance(traits, move || open(topology))
}

struct Server {
    servers: Mutex<Servers>,
    proxy: Option<Proxy>,
    registry: RedisRegistry,
    /// It bypasses the proxy, so that it survives when the registry's connections are cut.
    operator: RedisRegistry,
    backup: TempDir,
}

async fn open(topology: Topology) -> Result<Arc<dyn Subject>, String> {
    let servers = topology.start(Redis::options()).await.map_err(|error| error.to_string())?;
    let proxy = match servers.address() {
        Some(address) => Some(Proxy::start(address.parse().unwrap()).await.unwrap()),
        None => None,
    };
    let direct = servers.url();
    let through = proxy.as_ref().map(|proxy| format!("redis://{}", proxy.address()));
    let registry = connect(through.as_deref().unwrap_or(&direct)).await;
    let operator = connect(&direct).await;
    let (servers, backup) = (Mutex::new(servers), TempDir::new().unwrap());
    Ok(Arc::new(Server { servers, proxy, registry, operator, backup }))
}

async fn connect(url: &str) -> RedisRegistry {
    RedisRegistry::connect(&format!("{url}?prefix=test").parse().unwrap()).await.unwrap()
}

impl Server {
    /// Makes the instances of `service` that `which` selects expire now.
    async fn expire(&self, service: &ServiceName, which: impl Fn(&str) -> bool) -> usize {
        let due = key(service, "exp");
        let mut redis = self.servers.lock().await.connection(&due).await;
        let members: Vec<String> = redis.zrange(&due, 0, -1).await.unwrap();
        let own = format!("{service}\u{1f}");
        let picked = |member: &String| member.starts_with(&own) && which(member);
        let members: Vec<_> = members.into_iter().filter(picked).collect();
        make_due(&mut redis, service, &members).await;
        // A load deletes expired leases. In a Cluster the operator's connections are cut, too.
        let touched = async {
            while let Err(error) = self.operator.load(service).await {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            }
        };
        timeout(Duration::from_secs(20), touched).await.expect("the operator connects");
        members.len()
    }
}

#[async_trait]
impl Subject for Server {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.registry.clone())
    }

    async fn compact(&self, service: &ServiceName) {
        let log = key(service, "log");
        let trim = redis::cmd("XTRIM").arg(&log).arg("MAXLEN").arg(0).to_owned();
        let mut redis = self.servers.lock().await.connection(&log).await;
        let _: usize = trim.query_async(&mut redis).await.unwrap();
    }

    async fn revoke(&self, lease: &Lease) {
        let service = lease.instance().service();
        let leases = key(service, "lease");
        let mut redis = self.servers.lock().await.connection(&leases).await;
        let held: Option<String> = redis.hget(&leases, lease.id().to_string()).await.unwrap();
        if let Some(held) = held {
            assert_eq!(self.expire(service, |member| member == held).await, 1);
        }
    }

    async fn evict(&self, service: &ServiceName) {
        assert!(self.expire(service, |_| true).await > 0, "nothing was evicted");
    }

    async fn poison(&self, service: &ServiceName, id: &InstanceId) {
        let mut redis = self.servers.lock().await.connection(&key(service, "meta")).await;
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await.unwrap();
        let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap();
        let script = concat!(
            include_str!("../../src/scripts/head.lua"),
            include_str!("../../src/scripts/register.lua")
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

    fn reply_loss(&self) -> Option<&dyn ReplyLoss> {
        self.proxy.as_ref().map(|proxy| proxy as _)
    }

    async fn cut(&self) {
        match &self.proxy {
            Some(proxy) => proxy.cut(),
            None => self.servers.lock().await.cut().await,
        }
    }

    async fn backup(&self) {
        self.servers.lock().await.back_up_to(self.backup.path()).await;
    }

    async fn restore(&self) {
        self.servers.lock().await.restore_from(self.backup.path()).await;
    }
}
