//! The registry on any store.

use super::{Arm, Request};
use crate::operator::Operator;
use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use registry_core::{CallOptions, Change, Cursor, ErrorKind, Lease, Registry, ServiceName, Watch};
use registry_engine::{Discovery, DiscoveryOptions, View};
use std::sync::Arc;

/// A store through the trait, as users have it: dynamically dispatched, with every guarantee.
#[derive(Clone, Debug)]
pub struct Ours {
    registry: Arc<dyn Registry>,
    discovery: Discovery,
    operator: Option<Operator>,
}

impl Ours {
    /// Uses `registry`.
    pub fn new(registry: impl Registry) -> Self {
        let registry: Arc<dyn Registry> = Arc::new(registry);
        let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
        Self { registry, discovery, operator: None }
    }

    /// Adds an operator that can compact the store.
    #[must_use]
    pub fn with_operator(self, operator: Operator) -> Self {
        Self { operator: Some(operator), ..self }
    }
}

impl Arm for Ours {
    type Lease = Lease;
    type Cursor = Cursor;
    type Watch = Watch;

    async fn register(&self, request: &Request) -> Result<Lease> {
        Ok(self.registry.register(&request.instance, &request.claim, &CallOptions::DEFAULT).await?)
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        self.registry.keep_alive(lease, &CallOptions::DEFAULT).await?;
        Ok(())
    }

    async fn deregister(&self, lease: Lease) -> Result<()> {
        Ok(self.registry.deregister(&lease, &CallOptions::DEFAULT).await?)
    }

    async fn load(&self, service: &ServiceName) -> Result<usize> {
        Ok(self.registry.load(service, &CallOptions::DEFAULT).await?.instances().len())
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

    fn view(&self, service: &ServiceName) -> Option<View> {
        Some(self.discovery.view(service))
    }

    async fn compact(&self, service: &ServiceName) -> Result<()> {
        let operator = self.operator.clone();
        operator.context("this store has no operator")?.compact(service).await
    }

    async fn resync(&self, service: &ServiceName, compacted: &Cursor) -> Result<(usize, Watch)> {
        // It says so at once, or as the first item.
        let error = match self.registry.watch(service, compacted, &CallOptions::DEFAULT).await {
            Ok(mut watch) => watch.next().await.context("the watch ended")?.err(),
            Err(error) => Some(error),
        };
        let error = error.context("a watch went on where the history is compacted")?;
        ensure!(error.kind() == ErrorKind::Compacted, "it should be compacted: {error}");
        let snapshot = self.registry.load(service, &CallOptions::DEFAULT).await?;
        let watch = self.registry.watch(service, snapshot.cursor(), &CallOptions::DEFAULT).await?;
        Ok((snapshot.instances().len(), watch))
    }
}
