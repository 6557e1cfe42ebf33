//! The requests that the registry makes, made by the raw client.

use super::etcd::{KeyWatch, RawEtcd, id};
use super::{Arm, Request, decoded};
use crate::harness::etcd_server;
use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, LeaseGrantOptions, LeaseKeepAliveStream,
    LeaseKeeper, PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
};
use registry_core::{Change, Record, ServiceName};
use std::rc::Rc;
use tokio::sync::Mutex;

/// How many keys the registry reads at once: at first, and then.
const PAGE_LEN: i64 = 1000;
const NEXT_LEN: i64 = 5000;

/// The largest answers that the registry takes: to a read, and of a watch.
const MAX_ANSWER_LEN: usize = 625 << 20;
const MAX_EVENTS_LEN: usize = 64 << 20;

/// The raw client, making the same requests in the same order over a connection set up the same; and
/// nothing else. It has no deadlines, decodes no answer without need, and knows only one member.
#[derive(Clone)]
pub struct EtcdTwin {
    raw: RawEtcd,
    /// The stream of renewals, opened by the first.
    renewals: Rc<Mutex<Option<(LeaseKeeper, LeaseKeepAliveStream)>>>,
}

impl EtcdTwin {
    pub async fn connect(address: &str) -> Result<Self> {
        let client = etcd_server::client(address).await?;
        let raw = RawEtcd { client, root: etcd_server::RAW };
        Ok(Self { raw, renewals: Rc::default() })
    }
}

impl Arm for EtcdTwin {
    type Lease = i64;
    type Cursor = i64;
    type Watch = KeyWatch;
    type Loaded = Vec<Record>;

    async fn register(&self, request: &Request) -> Result<i64> {
        let claim = &request.claim;
        let (lease, ttl) = (claim.lease().get(), i64::try_from(claim.ttl().as_secs())?);
        let key = self.raw.key(request);
        let with_id = LeaseGrantOptions::new().with_id(lease);
        self.raw.client.lease_client().grant(ttl, Some(with_id)).await?;
        let txn = transaction(&key, &request.record()?, lease);
        self.raw.client.kv_client().txn(txn).await?;
        Ok(lease)
    }

    /// No more than a put: the registry also renews the lease, beside it.
    async fn update(&self, lease: &i64, request: &Request) -> Result<i64> {
        self.raw.put(request, *lease).await?;
        Ok(*lease)
    }

    async fn keep_alive(&self, lease: &i64) -> Result<()> {
        let mut renewals = self.renewals.lock().await;
        let Some((keeper, answers)) = &mut *renewals else {
            *renewals = Some(self.raw.client.lease_client().keep_alive(*lease).await?);
            return Ok(());
        };
        keeper.id = *lease;
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("the stream ended")?;
        ensure!(answer.ttl() > 0, "the lease is gone");
        Ok(())
    }

    async fn deregister(&self, lease: i64) -> Result<()> {
        self.raw.client.lease_client().revoke(lease).await?;
        Ok(())
    }

    async fn load(&self, service: &ServiceName) -> Result<Vec<Record>> {
        let prefix = self.raw.prefix(service);
        let mut instances = Vec::new();
        for kv in pages(&self.raw.client, &prefix).await?.1.iter().flatten() {
            instances.push(decoded(service, &id(&prefix, kv.key())?, kv.value())?);
        }
        Ok(instances)
    }

    async fn cursor(&self, service: &ServiceName) -> Result<i64> {
        self.raw.cursor(service).await
    }

    async fn watch(&self, service: &ServiceName, revision: &i64) -> Result<KeyWatch> {
        let options = watch_options(&self.raw.prefix(service), 1);
        self.raw.open(service, *revision, options, MAX_EVENTS_LEN).await
    }

    async fn next(&self, watch: &mut KeyWatch) -> Result<Vec<Change>> {
        self.raw.next(watch).await
    }

    fn position(&self, watch: &KeyWatch) -> i64 {
        self.raw.position(watch)
    }
}

/// All keys under a prefix, in pages that show one revision, as they come; and that revision.
pub async fn pages(client: &Client, prefix: &str) -> Result<(i64, Vec<Vec<KeyValue>>)> {
    let mut kv = client.kv_client().max_decoding_message_size(MAX_ANSWER_LEN);
    let mut options = GetOptions::new().with_range(end_of(prefix)).with_limit(PAGE_LEN);
    let (mut key, mut revision, mut pages) = (prefix.as_bytes().to_vec(), 0, Vec::new());
    loop {
        let mut page = kv.get(key, Some(options.clone())).await?;
        if pages.is_empty() {
            let header = page.header().context("an answer without a header")?;
            revision = header.revision();
            options = options.with_revision(revision).with_limit(NEXT_LEN);
        }
        let kvs = page.take_kvs();
        let next = kvs.last().filter(|_| page.more()).map(|last| [last.key(), b"\0"].concat());
        pages.push(kvs);
        match next {
            Some(next) => key = next,
            None => return Ok((revision, pages)),
        }
    }
}

/// What a watch of the registry asks for.
pub fn watch_options(prefix: &str, id: i64) -> WatchOptions {
    WatchOptions::new()
        .with_range(end_of(prefix))
        .with_watch_id(id)
        .with_progress_notify()
        .with_fragment()
}

/// What a watch of the registry holds its cursor against.
pub fn check_options(prefix: &str, at: i64) -> GetOptions {
    GetOptions::new()
        .with_range(end_of(prefix))
        .with_revision(at)
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_keys_only()
        .with_limit(1)
}

fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}

/// As a claim that takes nothing over.
fn transaction(key: &str, record: &[u8], lease: i64) -> Txn {
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
