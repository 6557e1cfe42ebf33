//! The etcd store in go-zero's layout, held to the whole contract.
//!
//! The kit names its instances as it likes, and in this layout they have numbers: so what it sees
//! is the store behind a list of which name has which number, and nothing else is between.
#![allow(clippy::unwrap_used)]

mod subject;

use async_trait::async_trait;
use etcd_client::{Client, GetOptions, Txn, TxnOp};
use futures_util::StreamExt;
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, Deleted, Holder, Instance, InstanceId, Lease,
    Record, Registry, Result, ServiceName, Snapshot, Watch,
};
use registry_etcd::EtcdRegistry;
use std::collections::{BTreeSet, HashMap};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subject::{Members, SubjectLayout};

fn main() -> ExitCode {
    subject::run::<GoZero>(Members::One, "?layout=go-zero")
}

struct GoZero(Numbers);

#[async_trait]
impl SubjectLayout for GoZero {
    fn over(registry: EtcdRegistry) -> (Self, Arc<dyn Registry>) {
        let numbers = Numbers::default();
        (Self(numbers.clone()), Arc::new(Numbered { registry, numbers }))
    }

    /// The keys alone, as who knows go-zero does it: what stands beside them is left to its lease.
    async fn evict(&self, client: &mut Client, service: &ServiceName) -> i64 {
        let prefix = format!("{service}/");
        let all = GetOptions::new().with_prefix().with_keys_only();
        let found = client.get(prefix.clone(), Some(all)).await.unwrap();
        let own = found.kvs().iter().map(etcd_client::KeyValue::key);
        let own: Vec<_> = own.filter(|key| !key[prefix.len()..].contains(&b'/')).collect();
        let deletes: Vec<_> = own.iter().map(|key| TxnOp::delete(*key, None)).collect();
        client.txn(Txn::new().and_then(deletes)).await.unwrap();
        i64::try_from(own.len()).unwrap()
    }

    fn key(&self, service: &ServiceName, id: &InstanceId) -> String {
        format!("{service}/{}", self.0.of(id))
    }
}

/// Which name has which number.
#[derive(Clone, Debug, Default)]
struct Numbers(Arc<Mutex<HashMap<InstanceId, InstanceId>>>);

impl Numbers {
    /// The number of a name, given it when it is first asked for.
    fn of(&self, name: &InstanceId) -> InstanceId {
        let mut numbers = self.0.lock().unwrap();
        let next = numbers.len() + 1;
        numbers.entry(name.clone()).or_insert_with(|| next.to_string().parse().unwrap()).clone()
    }

    fn name(&self, number: &InstanceId) -> InstanceId {
        let numbers = self.0.lock().unwrap();
        let (name, _) = numbers.iter().find(|(_, each)| *each == number).expect("it has a name");
        name.clone()
    }

    fn named(&self, instance: &Instance) -> Instance {
        with_id(instance, self.name(instance.id()))
    }

    fn named_record(&self, record: &Record) -> Record {
        let mut named = Record::new(self.named(record.instance()));
        if let Some(lease) = record.lease() {
            named = named.with_lease(lease);
        }
        if let Some(ttl) = record.ttl() {
            named = named.with_ttl(ttl);
        }
        named.with_revision(record.revision().expect("each key has a revision"))
    }

    fn named_change(&self, change: &Change) -> Change {
        match change {
            Change::Put(record) => Change::Put(self.named_record(record)),
            Change::Delete(number) => {
                let deleted = Deleted::new(self.name(number.id()));
                Change::Delete(match number.reason() {
                    Some(reason) => deleted.with_reason(reason),
                    None => deleted,
                })
            }
        }
    }

    fn named_watch(&self, watch: Watch) -> Watch {
        let numbers = self.clone();
        let named = move |batch: Arc<Batch>| {
            let changes = batch.changes.iter().map(|change| numbers.named_change(change)).collect();
            Arc::new(Batch::new(batch.cursor.clone(), changes))
        };
        watch.wrap(|watch| watch.map(move |item| item.map(&named)))
    }
}

/// What the kit sets of an instance, under another id.
fn with_id(instance: &Instance, id: InstanceId) -> Instance {
    let mut renamed = Instance::new(instance.service().clone(), id, instance.address().clone())
        .with_weight(instance.weight())
        .with_status(instance.status())
        .with_metadata(instance.metadata().clone())
        .unwrap();
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

#[derive(Debug)]
struct Numbered {
    registry: EtcdRegistry,
    numbers: Numbers,
}

impl Numbered {
    fn numbered(&self, instance: &Instance) -> Instance {
        with_id(instance, self.numbers.of(instance.id()))
    }

    fn numbered_lease(&self, lease: &Lease) -> Lease {
        with_instance(lease, self.numbered(lease.instance()))
    }
}

#[async_trait]
impl Registry for Numbered {
    async fn register(
        &self,
        instance: &Instance,
        claim: &Claim,
        options: &CallOptions,
    ) -> Result<Lease> {
        let lease = self.registry.register(&self.numbered(instance), claim, options).await?;
        Ok(with_instance(&lease, self.numbers.named(lease.instance())))
    }

    async fn holder(&self, instance: &Instance, options: &CallOptions) -> Result<Option<Holder>> {
        self.registry.holder(&self.numbered(instance), options).await
    }

    async fn keep_alive(&self, lease: &Lease, options: &CallOptions) -> Result<Duration> {
        self.registry.keep_alive(&self.numbered_lease(lease), options).await
    }

    async fn deregister(&self, lease: &Lease, options: &CallOptions) -> Result<()> {
        self.registry.deregister(&self.numbered_lease(lease), options).await
    }

    async fn load(&self, service: &ServiceName, options: &CallOptions) -> Result<Snapshot> {
        let found = self.registry.load(service, options).await?;
        let named = found.records().iter().map(|record| self.numbers.named_record(record));
        let snapshot = Snapshot::new(found.cursor().clone(), named);
        let snapshot = snapshot.with_lineage(found.lineage().clone());
        Ok(snapshot.with_undecodable(found.undecodable()))
    }

    async fn watch(
        &self,
        service: &ServiceName,
        after: &Cursor,
        options: &CallOptions,
    ) -> Result<Watch> {
        let watch = self.registry.watch(service, after, options).await?;
        Ok(self.numbers.named_watch(watch))
    }

    async fn watch_record(&self, lease: &Lease, options: &CallOptions) -> Result<Watch> {
        let watch = self.registry.watch_record(&self.numbered_lease(lease), options).await?;
        Ok(self.numbers.named_watch(watch))
    }

    async fn services(&self, options: &CallOptions) -> Result<BTreeSet<ServiceName>> {
        self.registry.services(options).await
    }
}
