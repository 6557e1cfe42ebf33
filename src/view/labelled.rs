//! A registry decorator that shows only instances with given labels.

use async_trait::async_trait;
use futures_util::StreamExt;
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, DeleteReason, Deleted, Holder, Instance, InstanceId,
    Lease, Registry, Result, ServiceName, Snapshot, Watch,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A registry decorator that shows only instances with given labels, for the view of one service. If an instance loses a
/// label, the reader sees it as withdrawn.
#[derive(Debug)]
pub(crate) struct Labelled {
    registry: Arc<dyn Registry>,
    selection: Arc<Selection>,
}

#[derive(Debug)]
struct Selection {
    labels: BTreeMap<String, String>,
    /// The instances that the reader knows.
    listed: Mutex<HashSet<InstanceId>>,
}

impl Labelled {
    pub(crate) fn new(registry: Arc<dyn Registry>, labels: BTreeMap<String, String>) -> Self {
        Self { registry, selection: Arc::new(Selection { labels, listed: Mutex::default() }) }
    }
}

impl Selection {
    fn has(&self, instance: &Instance) -> bool {
        self.labels.iter().all(|(name, value)| instance.labels().get(name) == Some(value))
    }

    fn of_snapshot(&self, all: &Snapshot) -> Snapshot {
        let records = all.records().iter().filter(|record| self.has(record.instance()));
        let selected = Snapshot::new(all.cursor().clone(), records.cloned())
            .with_undecodable(all.undecodable())
            .with_lineage(all.lineage().clone());
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        *listed = selected.records().ids().cloned().collect();
        selected
    }

    /// Returns the batch with only the changes of matching instances. It may be left with progress alone.
    fn of_batch(&self, all: &Batch) -> Batch {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = all.changes.iter().filter_map(|change| match change {
            Change::Put(record) if self.has(record.instance()) => {
                listed.insert(record.id().clone());
                Some(change.clone())
            }
            Change::Put(record) => listed
                .take(record.id())
                .map(|id| Change::Delete(Deleted::new(id).with_reason(DeleteReason::Withdrawn))),
            Change::Delete(deleted) => listed.remove(deleted.id()).then(|| change.clone()),
        });
        Batch::new(all.cursor.clone(), changes.collect())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Registry for Labelled {
    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        Ok(self.selection.of_snapshot(&self.registry.load(service, options).await?))
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let selection = self.selection.clone();
        let select = move |batch: Arc<Batch>| Arc::new(selection.of_batch(&batch));
        let watch = self.registry.watch(service, after, options).await?;
        Ok(watch.wrap(|all| all.map(move |batch| batch.map(&select))))
    }

    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        self.registry.register(instance, claim, options).await
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        self.registry.holder(instance, options).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        self.registry.keep_alive(lease, options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.registry.deregister(lease, options).await
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        self.registry.watch_record(lease, options).await
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        self.registry.services(options).await
    }

    fn default_ttl(&self) -> Option<Duration> {
        self.registry.default_ttl()
    }
}
