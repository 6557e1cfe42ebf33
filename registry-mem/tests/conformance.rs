//! The conformance tests of the memory store, on a paused clock.
#![allow(clippy::unwrap_used)]
use async_trait::async_trait;
use registry_core::{CallOptions, Cursor, ErrorKind, InstanceId, Lease, Registry, ServiceName};
use registry_mem::{MemRegistry, Model};
use registry_testkit::{Subject, Traits, conformance};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

fn main() -> ExitCode {
    let traits = Traits::memory().with_foreign_cursor(ErrorKind::Invalid).with_history(HISTORY);
    conformance(traits, || async { Ok(Arc::new(Memory::new()) as Arc<dyn Subject>) })
}

/// More than the scenarios that watch from an earlier cursor need.
const HISTORY: usize = 5_000;

struct Memory {
    registry: MemRegistry,
    backup: Mutex<Option<Model>>,
}

impl Memory {
    fn new() -> Self {
        Self { registry: MemRegistry::with_history_limit(HISTORY), backup: Mutex::default() }
    }
}

#[async_trait]
impl Subject for Memory {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.registry.clone())
    }

    async fn compact(&self, service: &ServiceName) {
        let now = self.registry.load(service, &CallOptions::DEFAULT).await.unwrap();
        self.registry.compact(now.cursor().revision());
    }

    async fn revoke(&self, lease: &Lease) {
        self.registry.revoke(lease.id());
    }

    async fn evict(&self, service: &ServiceName) {
        self.registry.evict(service);
    }

    async fn foreign_cursor(&self, service: &ServiceName) -> Option<Cursor> {
        let other = MemRegistry::new().load(service, &CallOptions::DEFAULT).await.unwrap();
        Some(other.cursor().clone())
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
