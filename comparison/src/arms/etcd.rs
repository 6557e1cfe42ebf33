//! etcd through its raw client.

use super::{Arm, Request, decoded};
use anyhow::{Context, Result, bail, ensure};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, KeyValue, LeaseGrantOptions,
    LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp, WatchOptions, WatchStream,
};
use registry_core::{Change, Deleted, InstanceId, Record, ServiceName};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Mutex;

/// The prefix of the raw client's keys. It is as long as the registry's prefix, so that the requests are as long, too.
pub const RAW_PREFIX: &str = "figures-raw_";

/// The page lengths of the registry: of the first page, and of the following pages.
const PAGE_LEN: i64 = 1000;
const NEXT_LEN: i64 = 5000;

/// The message size limits of the registry, for reads and watches.
const MAX_ANSWER_LEN: usize = 625 << 20;
const MAX_EVENTS_LEN: usize = 64 << 20;

/// `etcd-client`, with the requests and connection settings of the registry. It has no deadlines, checks no responses,
/// takes over no records and knows only one member.
#[derive(Clone)]
pub struct RawEtcd {
    client: Client,
    /// The stream of renewals, which the first renewal opens.
    renewals: Rc<Mutex<Option<(LeaseKeeper, LeaseKeepAliveStream)>>>,
}

/// A stream of events of the keys under a prefix.
pub struct KeyWatch {
    service: ServiceName,
    prefix: String,
    stream: WatchStream,
    revision: i64,
}

/// Connects to `http://host:port` with the connection settings of the registry.
pub async fn connect(endpoint: &str) -> Result<Client> {
    let options = ConnectOptions::new()
        .with_connect_timeout(Duration::from_secs(2))
        .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
        .with_keep_alive_while_idle(false)
        .with_require_leader(true);
    Ok(Client::connect([endpoint], Some(options)).await?)
}

impl RawEtcd {
    pub async fn connect(endpoint: &str) -> Result<Self> {
        Ok(Self { client: connect(endpoint).await?, renewals: Rc::default() })
    }

    /// Reads all keys of a service in pages of one revision.
    async fn pages(&self, prefix: &str) -> Result<Vec<KeyValue>> {
        let mut kv = self.client.kv_client().max_decoding_message_size(MAX_ANSWER_LEN);
        let mut options = GetOptions::new().with_range(end_of(prefix)).with_limit(PAGE_LEN);
        let (mut key, mut all) = (prefix.as_bytes().to_vec(), Vec::new());
        loop {
            let mut page = kv.get(key, Some(options.clone())).await?;
            if all.is_empty() {
                let revision = page.header().context("a response without a header")?.revision();
                options = options.with_revision(revision).with_limit(NEXT_LEN);
            }
            all.append(&mut page.take_kvs());
            match all.last().filter(|_| page.more()) {
                Some(last) => key = [last.key(), b"\0"].concat(),
                None => return Ok(all),
            }
        }
    }
}

impl Arm for RawEtcd {
    type Lease = i64;
    type Cursor = i64;
    type Watch = KeyWatch;
    type Loaded = Vec<Record>;

    async fn register(&self, request: &Request) -> Result<i64> {
        let claim = &request.claim;
        let (lease, ttl) = (claim.lease().get(), i64::try_from(claim.ttl().as_secs())?);
        let with_id = LeaseGrantOptions::new().with_id(lease);
        self.client.lease_client().grant(ttl, Some(with_id)).await?;
        let transaction = claim_transaction(&key(request), &request.record()?, lease);
        self.client.kv_client().txn(transaction).await?;
        Ok(lease)
    }

    /// Only puts the record, without a transaction. The registry also renews the lease.
    async fn update(&self, lease: &i64, request: &Request) -> Result<i64> {
        let options = PutOptions::new().with_lease(*lease);
        self.client.kv_client().put(key(request), request.record()?, Some(options)).await?;
        Ok(*lease)
    }

    async fn keep_alive(&self, lease: &i64) -> Result<()> {
        let mut renewals = self.renewals.lock().await;
        let Some((keeper, answers)) = &mut *renewals else {
            // Opening the stream renews the lease.
            *renewals = Some(self.client.lease_client().keep_alive(*lease).await?);
            return Ok(());
        };
        keeper.id = *lease;
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("the stream ended")?;
        ensure!(answer.ttl() > 0, "the lease has expired");
        Ok(())
    }

    async fn deregister(&self, lease: i64) -> Result<()> {
        self.client.lease_client().revoke(lease).await?;
        Ok(())
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        let prefix = prefix(service);
        let found = self.pages(&prefix).await?;
        found.iter().map(|kv| decoded(service, &id(&prefix, kv.key())?, kv.value())).collect()
    }

    async fn cursor(&self, service: &ServiceName) -> Result<i64> {
        let found = self.client.kv_client().get(prefix(service), None).await?;
        Ok(found.header().context("a response without a header")?.revision())
    }

    async fn watch(&self, service: &ServiceName, revision: &i64) -> Result<KeyWatch> {
        let (prefix, revision) = (prefix(service), *revision);
        let options = watch_options(&prefix, 1).with_start_revision(revision + 1);
        let mut watches = self.client.watch_client().max_decoding_message_size(MAX_EVENTS_LEN);
        let stream = watches.watch(prefix.as_str(), Some(options)).await?;
        Ok(KeyWatch { service: service.clone(), prefix, stream, revision })
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
}

/// Returns the watch options of the registry.
pub fn watch_options(prefix: &str, id: i64) -> WatchOptions {
    WatchOptions::new()
        .with_range(end_of(prefix))
        .with_watch_id(id)
        .with_progress_notify()
        .with_fragment()
}

fn prefix(service: &ServiceName) -> String {
    format!("{RAW_PREFIX}/{}/", service.as_str().replace('/', "%2F"))
}

fn key(request: &Request) -> String {
    format!("{}{}", prefix(request.instance.service()), request.instance.id())
}

fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}

fn id(prefix: &str, key: &[u8]) -> Result<InstanceId> {
    let id = key.strip_prefix(prefix.as_bytes()).context("a key of another service")?;
    Ok(InstanceId::new(str::from_utf8(id)?)?)
}

/// Returns the transaction of a claim without takeover.
fn claim_transaction(key: &str, record: &[u8], lease: i64) -> Txn {
    let ours = || Compare::lease(key, CompareOp::Equal, lease);
    let same = Compare::value(key, CompareOp::Equal, record);
    let vacant = || Compare::create_revision(key, CompareOp::Equal, 0);
    let read = || TxnOp::get(key, None);
    let put = || TxnOp::put(key, record, Some(PutOptions::new().with_lease(lease)));
    let if_ours = Txn::new().when([ours()]).and_then([put()]).or_else([read()]);
    let if_vacant = Txn::new().when([vacant()]).and_then([put()]).or_else([TxnOp::txn(if_ours)]);
    let if_stored = Txn::new().when([ours(), same]).and_then([read()]);
    let otherwise = TxnOp::txn(if_stored.or_else([TxnOp::txn(if_vacant)]));
    Txn::new().when([vacant()]).and_then([put()]).or_else([otherwise])
}
