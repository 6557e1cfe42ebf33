//! A server with a registry, and a plain client for what the registry cannot do.

use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp};
use futures_util::StreamExt;
use registry_core::{
    Batch, CallOptions, Change, Claim, Cursor, DeleteReason, ErrorKind, Holder, Instance,
    InstanceId, Lease, Record, Registry, Result, Revision, ServiceName, Snapshot, Takeover, Watch,
    encoding,
};
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::Etcd;
use registry_testkit::lag::timeout;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Awaits a future that must complete soon.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), future).await.expect("no timeout")
}

pub(crate) struct Fixture {
    pub(crate) server: Etcd,
    pub(crate) registry: EtcdRegistry,
    pub(crate) raw: Box<Client>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_as("").await
    }

    /// `query` is the part of the registry's URL after the address.
    pub(crate) async fn start_as(query: &str) -> Self {
        Self::over(within(Etcd::start()).await.unwrap(), query).await
    }

    pub(crate) async fn over(server: Etcd, query: &str) -> Self {
        let registry = connect_as(&server, query).await;
        let raw = within(Box::pin(Client::connect([server.endpoint()], None))).await.unwrap();
        Self { server, registry, raw: Box::new(raw) }
    }

    /// Puts `value` under `key` without a lease.
    pub(crate) async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        let answer = within(self.raw.kv_client().put(key, value, None)).await.unwrap();
        answer.header().unwrap().revision()
    }

    /// Puts `value` under `key`, as a publisher with `lease` does.
    pub(crate) async fn put_under(&self, lease: i64, key: &str, value: &str) {
        let options = Some(PutOptions::new().with_lease(lease));
        within(self.raw.kv_client().put(key, value, options)).await.unwrap();
    }

    /// Grants a lease whose id the server chooses.
    pub(crate) async fn grant(&self, seconds: i64) -> i64 {
        within(self.raw.lease_client().grant(seconds, None)).await.unwrap().id()
    }

    pub(crate) async fn revoke(&self, lease: i64) {
        within(self.raw.lease_client().revoke(lease)).await.unwrap();
    }

    /// Returns the keys from `start` up to `end` with their values, as other programs read them.
    pub(crate) async fn range(&self, start: &str, end: &str) -> Vec<(String, String)> {
        let options = Some(GetOptions::new().with_range(end));
        let found = within(self.raw.kv_client().get(start, options)).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        found.kvs().iter().map(|kv| (text(kv.key()), text(kv.value()))).collect()
    }

    /// Makes several changes in one revision.
    pub(crate) async fn change(&self, changes: impl Into<Vec<TxnOp>>) -> i64 {
        let always = Compare::version("none", CompareOp::Equal, 0);
        let txn = Txn::new().when([always]).and_then(changes);
        within(self.raw.kv_client().txn(txn)).await.unwrap().header().unwrap().revision()
    }

    /// Deletes `key`.
    pub(crate) async fn delete(&self, key: &str) {
        let answer = within(self.raw.kv_client().delete(key, None)).await.unwrap();
        assert_eq!(answer.deleted(), 1, "{key}");
    }

    /// Returns what is stored under `key`.
    pub(crate) async fn stored(&self, key: &str) -> Option<KeyValue> {
        within(self.raw.kv_client().get(key, None)).await.unwrap().take_kvs().pop()
    }

    /// The revision of the whole store.
    pub(crate) async fn revision(&self) -> i64 {
        let any = GetOptions::new().with_count_only();
        let answer = within(self.raw.kv_client().get("none", Some(any))).await.unwrap();
        answer.header().unwrap().revision()
    }

    pub(crate) async fn compact(&self, revision: u64) {
        let revision = revision.cast_signed();
        within(self.raw.kv_client().compact(revision, None)).await.unwrap();
    }

    /// Returns the server's metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        let endpoint = self.server.endpoint();
        let address = endpoint.strip_prefix("http://").unwrap();
        let metrics = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        within(metrics).await
    }

    /// Returns a metric, or 0 if it is missing.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a metric is 0. The server has no notification for that, so this polls.
    pub(crate) async fn wait_until_zero(&self, name: &str) {
        within(async {
            while self.metric(name).await != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Returns the number of calls, or streams, of a method.
    pub(crate) async fn calls(&self, method: &str) -> u64 {
        let (service, kind) = match method {
            "Range" => ("KV", "unary"),
            _ => ("Lease", "bidi_stream"),
        };
        self.metric(&format!(
            "grpc_server_started_total{{grpc_method=\"{method}\",grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"}}"
        ))
        .await
    }

    /// The ids of all leases.
    pub(crate) async fn leases(&self) -> Vec<i64> {
        let answer = within(self.raw.lease_client().leases()).await.unwrap();
        answer.leases().iter().map(etcd_client::LeaseStatus::id).collect()
    }

    pub(crate) async fn register(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        within(self.registry.register(instance, claim, &CallOptions::DEFAULT)).await
    }

    /// Returns the holder that refuses `claim`, and asserts that a read returns the same one.
    pub(crate) async fn holder(&self, instance: &Instance, claim: &Claim) -> Holder {
        let refused = self.register(instance, claim).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Superseded, "{refused}");
        let named = *refused.holder().expect("the error has the holder");
        assert_eq!(self.read_holder(instance).await, Some(named));
        named
    }

    /// Returns the holder by a read.
    pub(crate) async fn read_holder(&self, instance: &Instance) -> Option<Holder> {
        within(self.registry.holder(instance, &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Registers `instance` in place of the current holder of its id.
    pub(crate) async fn take_over(&self, instance: &Instance, claim: &Claim) -> Result<Lease> {
        let holder = self.holder(instance, claim).await;
        self.register(instance, &claim.with_takeover(Takeover::From(holder))).await
    }

    pub(crate) async fn keep_alive(&self, lease: &Lease) -> Result<Duration> {
        within(self.registry.keep_alive(lease, &CallOptions::DEFAULT)).await
    }

    pub(crate) async fn deregister(&self, lease: &Lease) -> Result<()> {
        within(self.registry.deregister(lease, &CallOptions::DEFAULT)).await
    }

    pub(crate) async fn load(&self, service: &str) -> Snapshot {
        within(self.registry.load(&name(service), &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Watches from the current state.
    pub(crate) async fn watch(&self, service: &str) -> Watch {
        let now = self.load(service).await;
        self.watch_after(service, now.cursor()).await.unwrap()
    }

    pub(crate) async fn watch_after(&self, service: &str, after: &Cursor) -> Result<Watch> {
        within(self.registry.watch(&name(service), after, &CallOptions::DEFAULT)).await
    }

    /// Returns how a watch after an invalid cursor fails: at once or as its first item.
    pub(crate) async fn watch_error(&self, service: &str, after: &Cursor) -> ErrorKind {
        match self.watch_after(service, after).await {
            Ok(mut watch) => within(watch.next()).await.unwrap().unwrap_err().kind(),
            Err(error) => error.kind(),
        }
    }
}

pub(crate) async fn connect(server: &Etcd) -> EtcdRegistry {
    connect_as(server, "").await
}

/// `query` is the part of the URL after the address.
pub(crate) async fn connect_as(server: &Etcd, query: &str) -> EtcdRegistry {
    let url = format!("{}{query}", server.url());
    within(EtcdRegistry::connect(&url.parse().unwrap())).await.unwrap()
}

pub(crate) fn name(service: &str) -> ServiceName {
    service.parse().unwrap()
}

pub(crate) fn instance(service: &str, id: &str) -> Instance {
    Instance::from_parts(name(service), id.parse().unwrap(), "10.0.0.1:8080".parse().unwrap())
}

pub(crate) fn claim(seconds: u64) -> Claim {
    Claim::new(Duration::from_secs(seconds)).unwrap()
}

/// A batch with simplified changes.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) cursor: Cursor,
    pub(crate) changes: Vec<SeenChange>,
    pub(crate) batch: Arc<Batch>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum SeenChange {
    Put(Instance),
    Delete(InstanceId, Option<DeleteReason>),
}

impl Seen {
    pub(crate) fn revision(&self) -> Revision {
        self.batch.revision()
    }
}

impl From<Arc<Batch>> for Seen {
    fn from(batch: Arc<Batch>) -> Self {
        let changes = batch.changes.iter().map(|change| match change {
            Change::Put(record) => SeenChange::Put(record.instance().clone()),
            Change::Delete(deleted) => SeenChange::Delete(deleted.id().clone(), deleted.reason()),
        });
        Self { cursor: batch.cursor.clone(), changes: changes.collect(), batch }
    }
}

/// Returns the next batch with changes.
pub(crate) async fn next(watch: &mut Watch) -> Seen {
    loop {
        let batch = within(watch.next()).await.unwrap().unwrap();
        if !batch.is_progress() {
            return batch.into();
        }
    }
}

/// Returns the error that ends a watch.
pub(crate) async fn end_error(watch: &mut Watch) -> ErrorKind {
    loop {
        if let Err(error) = within(watch.next()).await.expect("a watch ends with an error") {
            assert!(within(watch.next()).await.is_none());
            return error.kind();
        }
    }
}

pub(crate) fn put(instance: &Instance) -> SeenChange {
    SeenChange::Put(instance.clone())
}

/// A deletion without a known reason.
pub(crate) fn deleted(id: &str) -> SeenChange {
    SeenChange::Delete(id.parse().unwrap(), None)
}

pub(crate) fn withdrawn(id: &str) -> SeenChange {
    SeenChange::Delete(id.parse().unwrap(), Some(DeleteReason::Withdrawn))
}

/// Returns the bytes of an instance's record as other programs may write it, without a ttl.
pub(crate) fn encoded(instance: &Instance) -> Vec<u8> {
    encoding::encode(&Record::new(instance.clone())).unwrap()
}
