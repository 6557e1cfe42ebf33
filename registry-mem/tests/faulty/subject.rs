//! The subject of both conformance runs. What its operator does are faults that happen at once, so
//! that these are held to the contract too.

use async_trait::async_trait;
use registry_core::{InstanceId, Lease, Registry, ServiceName};
use registry_mem::{Fault, FaultyRegistry, MemRegistry};
use registry_testkit::Subject;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Faulty {
    store: MemRegistry,
    flaky: FaultyRegistry,
    late: bool,
}

#[allow(dead_code)] // each run uses one
impl Faulty {
    pub(crate) fn fair() -> Self {
        let store = MemRegistry::new();
        Self { flaky: FaultyRegistry::new(store.clone()), store, late: false }
    }

    pub(crate) fn late() -> Self {
        let (min, max) = (Duration::from_millis(2), Duration::from_millis(9));
        let mut late = Self::fair();
        late.late = true;
        late.flaky.inject(Fault::Latency { min, max });
        late
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        let delayed = self.flaky.hits().calls_delayed > 0;
        assert!(std::thread::panicking() || delayed == self.late, "the fault did not take effect");
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
