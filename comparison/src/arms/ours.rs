//! The registry, whatever store it is over.

use super::{Arm, Request};
use anyhow::{Context, Result};
use futures_util::StreamExt;
use registry_core::{Change, Cursor, Lease, Registry, ServiceName, Watch};
use std::sync::Arc;

/// A store through the trait, as users have it: dynamically dispatched, with every guarantee.
#[derive(Clone, Debug)]
pub struct Ours(Arc<dyn Registry>);

impl Ours {
    /// Uses `registry`.
    pub fn new(registry: impl Registry) -> Self {
        Self(Arc::new(registry))
    }
}

impl Arm for Ours {
    type Held = Lease;
    type Mark = Cursor;
    type Watch = Watch;

    async fn register(&self, request: &Request) -> Result<Lease> {
        Ok(self.0.register(&request.instance, &request.claim).await?)
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        Ok(self.0.keep_alive(lease).await?)
    }

    async fn deregister(&self, lease: Lease) -> Result<()> {
        Ok(self.0.deregister(&lease).await?)
    }

    async fn load(&self, service: &ServiceName) -> Result<usize> {
        Ok(self.0.load(service).await?.instances().len())
    }

    async fn mark(&self, service: &ServiceName) -> Result<Cursor> {
        Ok(self.0.load(service).await?.cursor().clone())
    }

    async fn watch(&self, service: &ServiceName, cursor: &Cursor) -> Result<Watch> {
        Ok(self.0.watch(service, cursor).await?)
    }

    async fn next(&self, watch: &mut Watch) -> Result<Vec<Change>> {
        Ok(watch.next().await.context("the watch ended")??.changes)
    }
}
