//! The conformance of the memory store, on a paused clock.
#![allow(clippy::unwrap_used)]
use async_trait::async_trait;
use registry_core::{InstanceId, Lease, Registry, ServiceName};
use registry_mem::{MemRegistry, Model};
use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

fn main() -> ExitCode {
    conformance(Traits::memory(), || async { Ok(Arc::new(Memory::default()) as Arc<dyn Subject>) })
}

#[derive(Default)]
struct Memory {
    registry: MemRegistry,
    backup: Mutex<Option<Model>>,
}

#[async_trait]
impl Subject for Memory {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.registry.clone())
    }

    async fn compact(&self, service: &ServiceName) {
        let now = self.registry.load(service).await.unwrap();
        self.registry.compact(now.cursor().revision());
    }

    async fn revoke(&self, lease: &Lease) {
        self.registry.revoke(lease.id());
    }

    async fn evict(&self, service: &ServiceName) {
        self.registry.evict(service);
    }

    async fn poison(&self, _: &ServiceName, _: &InstanceId) {
        unreachable!("the memory store is not remote");
    }

    async fn cut(&self) {
        self.registry.cut();
    }

    async fn backup(&self) {
        *self.backup.lock().unwrap() = Some(self.registry.backup());
    }

    async fn restore(&self) {
        self.registry.restore(self.backup.lock().unwrap().take().expect("a backup was made"));
    }
}
