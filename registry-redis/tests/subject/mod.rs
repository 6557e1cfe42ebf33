//! A Redis for the conformance kit, and an operator.

#![allow(dead_code)] // each binary uses a part of it

mod servers;

pub(crate) use self::servers::Topology;

use self::servers::Servers;
use crate::shard::{delete, key, run_script};
use async_trait::async_trait;
use redis::AsyncCommands;
use registry_core::{
    CallOptions, Cursor, ErrorKind, InstanceId, Lease, LeaseId, Registry, ServiceName,
};
use registry_redis::RedisRegistry;
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::{Redis, ServerOptions};
use registry_testkit::{ReplyLoss, Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Runs the conformance kit, with its own servers for each scenario.
pub(crate) fn run(topology: Topology) -> ExitCode {
    let traits = Traits::server(Duration::from_secs(2), Duration::from_millis(100));
    let traits = traits.with_foreign_cursor(ErrorKind::Diverged);
    let mut traits = traits.with_eviction_at_one_revision(false);
    // The nodes of a Cluster announce their own addresses, so clients bypass a proxy.
    traits.remote = matches!(topology, Topology::Standalone);
    conformance(traits, move || open(topology))
}

struct Server {
    servers: Mutex<Servers>,
    proxy: Option<Proxy>,
    registry: RedisRegistry,
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
    let (servers, backup) = (Mutex::new(servers), TempDir::new().unwrap());
    Ok(Arc::new(Server { servers, proxy, registry, backup }))
}

async fn connect(url: &str) -> RedisRegistry {
    RedisRegistry::connect(&format!("{url}?prefix=test").parse().unwrap()).await.unwrap()
}

impl Server {
    /// Deletes the records of `service` whose members `which` selects. Returns their number.
    async fn delete(&self, service: &ServiceName, which: impl Fn(&str) -> bool) -> usize {
        let mut redis = self.servers.lock().await.connection(&key(service, "state")).await;
        delete(&mut redis, service, which).await
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
        let state = key(service, "state");
        let mut redis = self.servers.lock().await.connection(&state).await;
        let held: Option<String> = redis.hget(&state, lease.id().to_string()).await.unwrap();
        if let Some(held) = held {
            assert_eq!(self.delete(service, |member| member == held).await, 1);
        }
    }

    async fn evict(&self, service: &ServiceName) {
        assert!(self.delete(service, |_| true).await > 0, "nothing was evicted");
    }

    async fn foreign_cursor(&self, service: &ServiceName) -> Option<Cursor> {
        let own = ServerOptions { url: None, ..Redis::options() };
        let server = Redis::start_with(own).await.unwrap();
        let other = connect(server.url()).await;
        Some(other.load(service, &CallOptions::DEFAULT).await.unwrap().cursor().clone())
    }

    async fn poison(&self, service: &ServiceName, id: &InstanceId) {
        let mut redis = self.servers.lock().await.connection(&key(service, "state")).await;
        let (member, lease) = (format!("{service}\u{1f}{id}"), LeaseId::random().to_string());
        let mut holder = String::new();
        loop {
            let args = [&member, &lease, "600000", &holder, "{\"v\":1,"];
            let register = concat!(
                include_str!("../../src/scripts/whole.lua"),
                include_str!("../../src/scripts/deadline.lua"),
                include_str!("../../src/scripts/register.lua"),
            );
            let (status, by, claimed): (String, String, String) =
                run_script(&mut redis, service, register, &args).await;
            match status.as_str() {
                "OK" => return,
                "SUPERSEDED" => holder = format!("{by} {claimed}"),
                _ => panic!("unexpected {status}"),
            }
        }
    }

    fn reply_loss(&self) -> Option<&dyn ReplyLoss> {
        self.proxy.as_ref().map(|proxy| proxy as _)
    }

    async fn fall_silent(&self) {
        match self.reply_loss() {
            Some(network) => network.lose_replies(),
            None => self.servers.lock().await.each(|process| process.pause().unwrap()),
        }
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
