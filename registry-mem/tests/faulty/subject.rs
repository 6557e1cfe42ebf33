//! The subject of both conformance tests. Its operator injects one-shot faults, so that these are tested, too.

use async_trait::async_trait;
use registry_core::{InstanceId, Lease, Registry, ServiceName};
use registry_mem::{Fault, FaultyRegistry, MemRegistry};
use registry_testkit::Subject;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Faulty {
    store: MemRegistry,
    flaky: FaultyRegistry,
    has_latency: bool,
}

#[allow(dead_code)] // each run uses one
impl Faulty {
    pub(crate) fn without_faults() -> Self {
        let store = MemRegistry::new();
        Self { flaky: FaultyRegistry::new(store.clone()), store, has_latency: false }
    }

    pub(crate) fn with_latency() -> Self {
        let (min, max) = (Duration::from_millis(2), Duration::from_millis(9));
        let mut subject = Self::without_faults();
        subject.has_latency = true;
        subject.flaky.inject(Fault::Latency { min, max });
        subject
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        let delayed = self.flaky.hits().calls_delayed > 0;
        assert!(
            std::thread::panicking() || delayed == self.has_latency,
            "the fault did not take effect"
        );
    }
}

#[async_trait]
impl Subject for Faulty {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.flaky.clone())
    }

    async fn compact(&self, _: &ServiceName) {
        self.flaky.inject(Fault::Compaction);
    }

    async fn revoke(&self, lease: &Lease) {
        self.store.revoke(lease.id());
    }

    async fn evict(&self, service: &ServiceName) {
        self.store.evict(service);
    }

    async fn fall_silent(&self) {
        self.flaky.inject(Fault::Silence);
    }

    async fn poison(&self, _: &ServiceName, _: &InstanceId) {
        unreachable!("the memory store is not remote");
    }

    async fn cut(&self) {
        self.flaky.inject(Fault::Cut);
    }

    async fn backup(&self) {
        self.flaky.inject(Fault::Checkpoint);
    }

    async fn restore(&self) {
        let before = self.flaky.hits().rollbacks;
        self.flaky.inject(Fault::Rollback);
        assert_eq!(self.flaky.hits().rollbacks, before + 1);
    }
}
