//! A registry that forwards each call to another one.

use async_trait::async_trait;
use registry_core::{
    CallOptions, Claim, Cursor, Holder, Instance, Lease, Registry, Result, ServiceName, Snapshot,
    Watch,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A registry that forwards each call to the registry that the function returns.
pub struct Routed<F>(pub F);

impl<F> fmt::Debug for Routed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Routed")
    }
}

#[async_trait]
impl<F: Fn() -> Arc<dyn Registry> + Send + Sync + 'static> Registry for Routed<F> {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        (self.0)().register(instance, claim, options).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        (self.0)().holder(instance, options).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        (self.0)().keep_alive(lease, options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        (self.0)().deregister(lease, options).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        (self.0)().load(service, options).await
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        (self.0)().watch(service, after, options).await
    }
}
