//! An etcd of one or three members as the subject of the conformance kit, in any layout.

mod members;

pub(crate) use members::Members;

use async_trait::async_trait;
use etcd_client::Client;
use registry_core::{DeleteReason, InstanceId, Lease, Registry, ServiceName};
use registry_etcd::EtcdRegistry;
use registry_testbed::proxy::Proxy;
use registry_testbed::servers::Etcd;
use registry_testkit::{LostWrites, ReplyLoss, Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Runs the kit over a layout; `rest` is the part of the URLs after the address.
pub(crate) fn run<L: SubjectLayout>(members: Members, rest: &'static str) -> ExitCode {
    // etcd grants at least 2 s, and checks for expired leases twice a second.
    let traits = Traits::server(Duration::from_secs(2), Duration::from_secs(1));
    let traits = traits.with_lost_writes(LostWrites::NoticedOncePerTtl);
    let traits = traits.with_reasons(&[DeleteReason::Withdrawn]);
    conformance(traits, move || Server::<L>::open(members, rest))
}

/// An operator's knowledge of a layout.
#[async_trait]
pub(crate) trait SubjectLayout: Send + Sync + Sized + 'static {
    /// Returns the layout over a new server, and the registry that the kit uses.
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>);

    /// Deletes all instances of a service at one revision. Returns the number of keys deleted.
    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64;

    /// Returns the key of the instance that the kit calls `id`.
    fn key(&self, service: &ServiceName, id: &InstanceId) -> String;
}

struct Server<L> {
    etcd: Mutex<members::Running>,
    proxy: Proxy,
    client: Client,
    layout: L,
    registry: Arc<dyn Registry>,
    backup: TempDir,
}

impl<L: SubjectLayout> Server<L> {
    async fn open(members: Members, rest: &'static str) -> Result<Arc<dyn Subject>, String> {
        let etcd = members.start(Etcd::options()).await.map_err(|error| error.to_string())?;
        let endpoint = etcd.endpoint();
        let proxy = Proxy::start(endpoint.trim_start_matches("http://").parse().unwrap());
        let proxy = proxy.await.unwrap();
        let client = Client::connect([endpoint], None).await.unwrap();
        let url = format!("etcd://{}{rest}", proxy.address());
        let registry = EtcdRegistry::connect(&url.parse().unwrap()).await.unwrap();
        let (layout, registry) = L::over(registry);
        let backup = TempDir::new().unwrap();
        Ok(Arc::new(Self { etcd: Mutex::new(etcd), proxy, client, layout, registry, backup }))
    }
}

#[async_trait]
impl<L: SubjectLayout> Subject for Server<L> {
    fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
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
        let deleted = self.layout.evict(&mut self.client.clone(), service).await;
        assert!(deleted > 0, "nothing was evicted");
    }

    async fn poison(&self, service: &ServiceName, id: &InstanceId) {
        let key = self.layout.key(service, id);
        self.client.clone().put(key, "{\"v\":1,", None).await.unwrap();
    }

    fn reply_loss(&self) -> Option<&dyn ReplyLoss> {
        Some(&self.proxy)
    }

    async fn cut(&self) {
        self.proxy.cut();
    }

    async fn backup(&self) {
        self.etcd.lock().await.back_up_to(self.backup.path()).await;
    }

    async fn restore(&self) {
        self.etcd.lock().await.restore_from(self.backup.path()).await;
    }
}
