//! The etcd store, held to the contract on a real server of its own for each scenario.
#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use etcd_client::{Client, DeleteOptions};
use registry_core::{InstanceId, Lease, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use registry_testkit::proxy::Proxy;
use registry_testkit::servers::Etcd;
use registry_testkit::{LostWrites, Subject, Traits, conformance};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

fn main() -> ExitCode {
    // etcd grants 2 s at least, and looks for expired leases twice a second.
    let traits = Traits::server(Duration::from_secs(2), Duration::from_secs(1));
    conformance(traits.with_lost_writes(LostWrites::NoticedOncePerTtl), open)
}

struct Server {
    etcd: Mutex<Etcd>,
    proxy: Proxy,
    client: Client,
    registry: EtcdRegistry,
    backup: TempDir,
}

async fn open() -> Result<Arc<dyn Subject>, String> {
    let etcd = Etcd::start().await.map_err(|error| error.to_string())?;
    let address = etcd.endpoint().trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(address).await.unwrap();
    let client = Client::connect([etcd.endpoint()], None).await.unwrap();
    let url = format!("etcd://{}/test", proxy.address());
    let registry = EtcdRegistry::connect(&url.parse().unwrap()).await.unwrap();
    let backup = TempDir::new().unwrap();
    Ok(Arc::new(Server { etcd: Mutex::new(etcd), proxy, client, registry, backup }))
}

#[async_trait]
impl Subject for Server {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.registry.clone())
    }

    async fn compact(&self, _: &ServiceName) {
        let mut client = self.client.clone();
        let now = client.get("any", None).await.unwrap().header().unwrap().revision();
        match client.compact(now, None).await {
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("has been compacted"), "{error}"),
        }
    }

    async fn revoke(&self, lease: &Lease) {
        match self.client.clone().lease_revoke(lease.id().get()).await {
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("lease not found"), "{error}"),
        }
    }

    async fn evict(&self, service: &ServiceName) {
        let prefix = format!("test/{}/", escape(service.as_str()));
        let deleted =
            self.client.clone().delete(prefix, Some(DeleteOptions::new().with_prefix())).await;
        assert!(deleted.unwrap().deleted() > 0, "nothing was evicted");
    }

    async fn poison(&self, service: &ServiceName, id: &InstanceId) {
        let key = format!("test/{}/{}", escape(service.as_str()), escape(id.as_str()));
        self.client.clone().put(key, "{\"v\":1,", None).await.unwrap();
    }

    fn proxy(&self) -> Option<&Proxy> {
        Some(&self.proxy)
    }

    async fn cut(&self) {
        self.proxy.cut();
    }

    async fn backup(&self) {
        let mut etcd = self.etcd.lock().await;
        let process = etcd.process().unwrap();
        process.kill().unwrap();
        copy(&process.data_dir(), self.backup.path());
        process.restart().await.unwrap();
    }

    async fn restore(&self) {
        let mut etcd = self.etcd.lock().await;
        let process = etcd.process().unwrap();
        process.kill().unwrap();
        process.wipe().unwrap();
        copy(self.backup.path(), &process.data_dir());
        process.restart().await.unwrap();
    }
}

/// Enough for the names that operators touch here; the layout's own tests have the rest.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2F")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
