//! A store whose layout restricts names. The kit uses it through a mapping of names, with nothing else in between.

use async_trait::async_trait;
use futures_util::StreamExt;
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, Deleted, Holder, Instance, InstanceId, Lease,
    Record, Registry, Result, ServiceName, Snapshot, Watch,
};
use registry_etcd::EtcdRegistry;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// The mapping between the kit's names and the stored names.
pub(crate) trait Names: Clone + Debug + Send + Sync + 'static {
    fn stored_id(&self, shown: &InstanceId) -> InstanceId {
        shown.clone()
    }

    fn shown_id(&self, stored: &InstanceId) -> InstanceId {
        stored.clone()
    }

    fn stored_service(&self, shown: &ServiceName) -> ServiceName {
        shown.clone()
    }

    fn shown_service(&self, stored: &ServiceName) -> ServiceName {
        stored.clone()
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Renamed<N> {
    registry: EtcdRegistry,
    names: N,
}

impl<N: Names> Renamed<N> {
    pub(crate) fn new(registry: EtcdRegistry, names: N) -> Self {
        Self { registry, names }
    }

    fn stored(&self, shown: &Instance) -> Instance {
        let service = self.names.stored_service(shown.service());
        renamed(shown, service, self.names.stored_id(shown.id()))
    }

    fn stored_lease(&self, shown: &Lease) -> Lease {
        with_instance(shown, self.stored(shown.instance()))
    }

    fn shown(&self, stored: &Instance) -> Instance {
        let service = self.names.shown_service(stored.service());
        renamed(stored, service, self.names.shown_id(stored.id()))
    }

    fn shown_record(&self, stored: &Record) -> Record {
        let mut shown = Record::new(self.shown(stored.instance()));
        if let Some(lease) = stored.lease() {
            shown = shown.with_lease(lease);
        }
        if let Some(ttl) = stored.ttl() {
            shown = shown.with_ttl(ttl);
        }
        shown.with_revision(stored.revision().expect("each key has a revision"))
    }

    fn shown_change(&self, change: &Change) -> Change {
        match change {
            Change::Put(record) => Change::Put(self.shown_record(record)),
            Change::Delete(stored) => {
                let deleted = Deleted::new(self.names.shown_id(stored.id()));
                Change::Delete(match stored.reason() {
                    Some(reason) => deleted.with_reason(reason),
                    None => deleted,
                })
            }
        }
    }

    fn shown_watch(&self, watch: Watch) -> Watch {
        let names = self.clone();
        let shown = move |batch: Arc<Batch>| {
            let changes = batch.changes.iter().map(|change| names.shown_change(change)).collect();
            Arc::new(Batch::new(batch.cursor.clone(), changes))
        };
        watch.wrap(|watch| watch.map(move |item| item.map(&shown)))
    }
}

/// Returns the instance under other names.
fn renamed(instance: &Instance, service: ServiceName, id: InstanceId) -> Instance {
    let mut renamed = Instance::from_parts(service, id, instance.address().clone())
        .with_weight(instance.weight())
        .with_status(instance.status())
        .with_metadata(instance.metadata().clone());
    for (name, port) in instance.ports() {
        renamed = renamed.with_port(name, port.clone());
    }
    for (name, value) in instance.labels() {
        renamed = renamed.with_label(name, value);
    }
    match instance.zone() {
        Some(zone) => renamed.with_zone(zone),
        None => renamed,
    }
}

fn with_instance(lease: &Lease, instance: Instance) -> Lease {
    Lease::new(lease.id(), lease.ttl(), instance, lease.revision())
}

#[async_trait]
impl<N: Names> Registry for Renamed<N> {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        let lease = self.registry.register(&self.stored(instance), claim, options).await?;
        Ok(with_instance(&lease, self.shown(lease.instance())))
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        self.registry.holder(&self.stored(instance), options).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        self.registry.keep_alive(&self.stored_lease(lease), options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.registry.deregister(&self.stored_lease(lease), options).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        let found = self.registry.load(&self.names.stored_service(service), options).await?;
        let shown = found.records().iter().map(|record| self.shown_record(record));
        let snapshot = Snapshot::new(found.cursor().clone(), shown);
        let snapshot = snapshot.with_lineage(found.lineage().clone());
        Ok(snapshot.with_undecodable(found.undecodable()))
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let service = self.names.stored_service(service);
        let watch = self.registry.watch(&service, after, options).await?;
        Ok(self.shown_watch(watch))
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let watch = self.registry.watch_record(&self.stored_lease(lease), options).await?;
        Ok(self.shown_watch(watch))
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        let stored = self.registry.services(options).await?;
        Ok(stored.iter().map(|service| self.names.shown_service(service)).collect())
    }
}
