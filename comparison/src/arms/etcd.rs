//! etcd by its raw client.

use super::{Arm, Request, decoded};
use crate::harness::operator::compact;
use anyhow::{Context, Result, bail, ensure};
use etcd_client::{
    Client, ConnectOptions, EventType, GetOptions, LeaseGrantOptions, LeaseKeepAliveStream,
    LeaseKeeper, PutOptions, WatchOptions, WatchStream,
};
use registry_core::{Change, Deleted, InstanceId, Record, ServiceName};
use std::time::Duration;
use tokio::sync::Mutex;

/// What a user of `etcd-client` writes by hand, on a connection set up as the registry's is.
///
/// | operation | requests | what it does not guarantee |
/// | --- | --- | --- |
/// | register | `LeaseGrant` with a chosen id, then `Put` under it | a repeat is another revision; whoever holds the id is overwritten |
/// | `keep_alive` | one `LeaseKeepAlive`, on a stream held open for the lease | that the record is still there; that a server without an answer is noticed |
/// | load | one `Range` of the prefix, decoded | more than 4 MiB; one revision over several pages |
/// | watch | one stream, read by the consumer | that the history is the same one; a bound on what is not read |
/// | resync | a watch, which is canceled; one `Range`; a watch after its revision | as load and watch |
///
/// A stream for each lease, read by the renewing task, needs the fewest steps. The registry has four for all
/// leases, and hands each answer to the caller that waits for it.
#[derive(Clone)]
pub struct RawEtcd {
    pub(super) client: Client,
    /// What all keys begin with.
    pub(super) root: &'static str,
}

/// The largest message of a watch: what the client takes by default.
const MAX_EVENTS_LEN: usize = 4 << 20;

/// A lease, and the stream it is renewed on: opened by the first renewal.
pub struct RawLease {
    id: i64,
    stream: Mutex<Option<(LeaseKeeper, LeaseKeepAliveStream)>>,
}

/// A stream of events, and the prefix of the keys they are about.
pub struct KeyWatch {
    service: ServiceName,
    prefix: String,
    stream: WatchStream,
    revision: i64,
}

impl RawEtcd {
    /// Connects to an endpoint, `http://host:port`.
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(2))
            .with_timeout(Duration::from_secs(5))
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(false)
            .with_require_leader(true);
        let client = Client::connect([endpoint], Some(options)).await?;
        Ok(Self { client, root: "comparison-raw" })
    }

    /// Reads and decodes all instances of a service, and returns the revision, too.
    async fn range(&self, service: &ServiceName) -> Result<(Vec<Record>, i64)> {
        let prefix = self.prefix(service);
        let whole = GetOptions::new().with_prefix();
        let found = self.client.kv_client().get(prefix.as_str(), Some(whole)).await?;
        let mut instances = Vec::with_capacity(found.kvs().len());
        for kv in found.kvs() {
            instances.push(decoded(service, &id(&prefix, kv.key())?, kv.value())?);
        }
        let header = found.header().context("an answer without a header")?;
        Ok((instances, header.revision()))
    }

    pub(super) async fn put(&self, request: &Request, lease: i64) -> Result<()> {
        let key = self.key(request);
        let under = PutOptions::new().with_lease(lease);
        self.client.kv_client().put(key, request.record()?, Some(under)).await?;
        Ok(())
    }

    pub(super) async fn open(
        &self,
        service: &ServiceName,
        revision: i64,
        options: WatchOptions,
        max_len: usize,
    ) -> Result<KeyWatch> {
        let prefix = self.prefix(service);
        let options = options.with_start_revision(revision + 1);
        let mut watches = self.client.watch_client().max_decoding_message_size(max_len);
        let stream = watches.watch(prefix.as_str(), Some(options)).await?;
        Ok(KeyWatch { service: service.clone(), prefix, stream, revision })
    }

    /// Returns what the keys of a service begin with.
    pub(super) fn prefix(&self, service: &ServiceName) -> String {
        format!("{}/{}/", self.root, service.as_str().replace('/', "%2F"))
    }

    pub(super) fn key(&self, request: &Request) -> String {
        format!("{}{}", self.prefix(request.instance.service()), request.instance.id())
    }

    /// What the server says its version is.
    pub async fn version(&self) -> Result<String> {
        Ok(self.client.maintenance_client().status().await?.version().to_owned())
    }
}

impl Arm for RawEtcd {
    type Lease = RawLease;
    type Cursor = i64;
    type Watch = KeyWatch;
    type Loaded = Vec<Record>;

    async fn register(&self, request: &Request) -> Result<RawLease> {
        let lease = request.claim.lease().get();
        let ttl = i64::try_from(request.claim.ttl().as_secs())?;
        let with_id = LeaseGrantOptions::new().with_id(lease);
        self.client.lease_client().grant(ttl, Some(with_id)).await?;
        self.put(request, lease).await?;
        Ok(RawLease { id: lease, stream: Mutex::default() })
    }

    async fn update(&self, lease: &RawLease, request: &Request) -> Result<RawLease> {
        self.put(request, lease.id).await?;
        Ok(RawLease { id: lease.id, stream: Mutex::default() })
    }

    async fn keep_alive(&self, lease: &RawLease) -> Result<()> {
        let mut stream = lease.stream.lock().await;
        let Some((keeper, answers)) = &mut *stream else {
            // To open it renews the lease, too.
            *stream = Some(self.client.lease_client().keep_alive(lease.id).await?);
            return Ok(());
        };
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("the stream ended")?;
        ensure!(answer.ttl() > 0, "the lease is gone");
        Ok(())
    }

    async fn deregister(&self, lease: RawLease) -> Result<()> {
        self.client.lease_client().revoke(lease.id).await?;
        Ok(())
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        Ok(self.range(service).await?.0)
    }

    async fn cursor(&self, service: &ServiceName) -> Result<i64> {
        let found = self.client.kv_client().get(self.prefix(service), None).await?;
        Ok(found.header().context("an answer without a header")?.revision())
    }

    async fn watch(&self, service: &ServiceName, revision: &i64) -> Result<KeyWatch> {
        self.open(service, *revision, WatchOptions::new().with_prefix(), MAX_EVENTS_LEN).await
    }

    async fn next(&self, watch: &mut KeyWatch) -> Result<Vec<Change>> {
        let answer = watch.stream.message().await?.context("the watch ended")?;
        if answer.canceled() {
            bail!("the watch was canceled: {}", answer.cancel_reason());
        }
        let mut changes = Vec::with_capacity(answer.events().len());
        for event in answer.events() {
            let kv = event.kv().context("an event without a key")?;
            let id = id(&watch.prefix, kv.key())?;
            watch.revision = kv.mod_revision();
            changes.push(match event.event_type() {
                EventType::Put => Change::Put(decoded(&watch.service, &id, kv.value())?),
                EventType::Delete => Change::Delete(Deleted::new(id)),
            });
        }
        Ok(changes)
    }

    fn position(&self, watch: &KeyWatch) -> i64 {
        watch.revision
    }

    async fn compact(&self, _: &ServiceName) -> Result<()> {
        compact(&mut self.client.clone()).await
    }

    async fn resync(&self, service: &ServiceName, compacted: &i64) -> Result<(usize, KeyWatch)> {
        let mut watch = self.watch(service, compacted).await?;
        loop {
            let answer = watch.stream.message().await?.context("the watch ended")?;
            ensure!(answer.events().is_empty(), "a watch went on where the history is compacted");
            if answer.compact_revision() > 0 {
                break;
            }
            ensure!(!answer.canceled(), "the watch was canceled: {}", answer.cancel_reason());
        }
        let (loaded, revision) = self.range(service).await?;
        let mut watch = self.watch(service, &revision).await?;
        let answer = watch.stream.message().await?.context("the watch ended")?;
        ensure!(answer.created() && !answer.canceled(), "there is no watch");
        Ok((loaded.len(), watch))
    }
}

pub(super) fn id(prefix: &str, key: &[u8]) -> Result<InstanceId> {
    let id = key.strip_prefix(prefix.as_bytes()).context("a key of another service")?;
    Ok(InstanceId::new(str::from_utf8(id)?)?)
}
