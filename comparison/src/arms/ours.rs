//! The registry on any store.

use super::{Arm, Request};
use anyhow::{Context, Error, Result};
use futures_util::StreamExt;
use registry_core::{
    self as core, CallOptions, Change, Claim, Cursor, ErrorKind, Lease, Records, Registry,
    ServiceName, Watch,
};
use registry_engine::{Discovery, DiscoveryOptions, View};
use std::sync::Arc;

/// The registry through the trait object that users have, with all its guarantees.
#[derive(Clone)]
pub struct Ours {
    pub registry: Arc<dyn Registry>,
    discovery: Discovery,
}

impl Ours {
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
        Self { registry, discovery }
    }

    async fn claim(&self, request: &Request, claim: &Claim) -> Result<Lease> {
        Ok(self.registry.register(&request.instance, claim, &CallOptions::DEFAULT).await?)
    }
}

impl Arm for Ours {
    type Lease = Lease;
    type Cursor = Cursor;
    type Watch = Watch;
    type Loaded = Records;

    async fn register(&self, request: &Request) -> Result<Lease> {
        self.claim(request, &request.claim).await
    }

    async fn update(&self, lease: &Lease, request: &Request) -> Result<Lease> {
        self.claim(request, &request.claim.with_lease(lease.id())).await
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        self.registry.keep_alive(lease, &CallOptions::DEFAULT).await?;
        Ok(())
    }

    async fn deregister(&self, lease: Lease) -> Result<()> {
        Ok(self.registry.deregister(&lease, &CallOptions::DEFAULT).await?)
    }

    async fn load(&self, service: &ServiceName) -> Result<Records> {
        Ok(self.registry.load(service, &CallOptions::DEFAULT).await?.records().clone())
    }

    async fn cursor(&self, service: &ServiceName) -> Result<Cursor> {
        Ok(self.registry.load(service, &CallOptions::DEFAULT).await?.cursor().clone())
    }

    async fn watch(&self, service: &ServiceName, cursor: &Cursor) -> Result<Watch> {
        Ok(self.registry.watch(service, cursor, &CallOptions::DEFAULT).await?)
    }

    async fn next(&self, watch: &mut Watch) -> Result<Vec<Change>> {
        Ok(watch.next().await.context("the watch ended")??.changes.clone())
    }

    fn position(&self, watch: &Watch) -> Cursor {
        watch.cursor().clone()
    }

    fn is_gap(error: &Error) -> bool {
        let kind = error.downcast_ref::<core::Error>().map(core::Error::kind);
        matches!(kind, Some(ErrorKind::Compacted | ErrorKind::Diverged))
    }

    fn view(&self, service: &ServiceName) -> Option<View> {
        Some(self.discovery.view(service))
    }
}
