//! The requests that the registry makes, made by the raw client.

use crate::server::{self, RAW};
use anyhow::{Context, Result, ensure};
use comparison::arms::ours::Ours;
use comparison::arms::{Arm, Request, decoded};
use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, KeyValue, LeaseGrantOptions,
    LeaseKeepAliveStream, LeaseKeeper, PutOptions, SortOrder, SortTarget, Txn, TxnOp, WatchOptions,
    WatchResponseStream,
};
use futures_util::future;
use registry_core::{Change, Cursor, Deleted, Instance, InstanceId, Lease, ServiceName, Watch};
use std::rc::Rc;
use std::time::Duration;
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
pub(crate) struct Twin {
    client: Client,
    /// The stream of renewals, opened by the first.
    renewals: Rc<Mutex<Option<(LeaseKeeper, LeaseKeepAliveStream)>>>,
    /// Whether a renewal also checks that the record is unchanged.
    checks_record: bool,
}

/// A registration.
pub(crate) struct TwinLease {
    id: i64,
    key: String,
    revision: i64,
}

/// An open watch.
pub(crate) struct Events {
    service: ServiceName,
    prefix: String,
    responses: WatchResponseStream,
    /// What keeps the stream open.
    _requests: etcd_client::WatchRequestSender,
}

impl Twin {
    pub(crate) async fn connect(address: &str, checks_record: bool) -> Result<Self> {
        let client = server::client(address).await?;
        Ok(Self { client, renewals: Rc::default(), checks_record })
    }

    async fn renew(&self, lease: i64) -> Result<()> {
        let mut renewals = self.renewals.lock().await;
        let Some((keeper, answers)) = &mut *renewals else {
            *renewals = Some(self.client.lease_client().keep_alive(lease).await?);
            return Ok(());
        };
        keeper.id = lease;
        keeper.keep_alive().await?;
        let answer = answers.message().await?.context("the stream ended")?;
        ensure!(answer.ttl() > 0, "the lease is gone");
        Ok(())
    }

    async fn check_record(&self, lease: &TwinLease) -> Result<()> {
        let keys_only = GetOptions::new().with_keys_only();
        let mut kv = self.client.kv_client().max_decoding_message_size(MAX_ANSWER_LEN);
        let found = kv.get(lease.key.as_str(), Some(keys_only)).await?;
        let is_current =
            |kv: &KeyValue| kv.lease() == lease.id && kv.mod_revision() == lease.revision;
        ensure!(found.kvs().first().is_some_and(is_current), "the record has changed");
        Ok(())
    }
}

impl Arm for Twin {
    type Lease = TwinLease;
    type Cursor = i64;
    type Watch = Events;

    async fn register(&self, request: &Request) -> Result<TwinLease> {
        let (instance, claim) = (&request.instance, &request.claim);
        let (lease, ttl) = (claim.lease().get(), i64::try_from(claim.ttl().as_secs())?);
        let key = format!("{}{}", prefix(instance.service()), instance.id());
        let with_id = LeaseGrantOptions::new().with_id(lease);
        self.client.lease_client().grant(ttl, Some(with_id)).await?;
        let txn = transaction(&key, &request.record()?, lease);
        let answer = self.client.kv_client().txn(txn).await?;
        let revision = answer.header().context("an answer without a header")?.revision();
        Ok(TwinLease { id: lease, key, revision })
    }

    async fn keep_alive(&self, lease: &TwinLease) -> Result<()> {
        if self.checks_record {
            future::try_join(self.renew(lease.id), self.check_record(lease)).await?;
            return Ok(());
        }
        self.renew(lease.id).await
    }

    async fn deregister(&self, lease: TwinLease) -> Result<()> {
        self.client.lease_client().revoke(lease.id).await?;
        Ok(())
    }

    async fn load(&self, service: &ServiceName) -> Result<usize> {
        let prefix = prefix(service);
        let mut instances = Vec::new();
        for kv in pages(&self.client, &prefix).await?.1.iter().flatten() {
            instances.push(decoded(service, &id(&prefix, kv.key())?, kv.value())?);
        }
        Ok(instances.len())
    }

    async fn cursor(&self, service: &ServiceName) -> Result<i64> {
        let found = self.client.kv_client().get(prefix(service), None).await?;
        Ok(found.header().context("an answer without a header")?.revision())
    }

    async fn watch(&self, service: &ServiceName, revision: &i64) -> Result<Events> {
        let prefix = prefix(service);
        let mut watches = self.client.watch_client().max_decoding_message_size(MAX_EVENTS_LEN);
        let options = watch_options(&prefix, revision + 1, 1);
        let (requests, responses) = watches.watch(prefix.as_str(), Some(options)).await?.split();
        Ok(Events { service: service.clone(), prefix, responses, _requests: requests })
    }

    async fn next(&self, watch: &mut Events) -> Result<Vec<Change>> {
        let answer = watch.responses.message().await?.context("the watch ended")?;
        ensure!(!answer.canceled(), "the watch was canceled: {}", answer.cancel_reason());
        let mut changes = Vec::with_capacity(answer.events().len());
        for event in answer.events() {
            let kv = event.kv().context("an event without a key")?;
            let id = id(&watch.prefix, kv.key())?;
            changes.push(match event.event_type() {
                EventType::Put => Change::Put(decoded(&watch.service, &id, kv.value())?),
                EventType::Delete => Change::Delete(Deleted::new(id)),
            });
        }
        Ok(changes)
    }
}

/// All keys under a prefix, in pages that show one revision, as they come; and that revision.
pub(crate) async fn pages(client: &Client, prefix: &str) -> Result<(i64, Vec<Vec<KeyValue>>)> {
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
pub(crate) fn watch_options(prefix: &str, start: i64, id: i64) -> WatchOptions {
    WatchOptions::new()
        .with_range(end_of(prefix))
        .with_start_revision(start)
        .with_watch_id(id)
        .with_progress_notify()
        .with_fragment()
}

/// What a watch of the registry holds its cursor against.
pub(crate) fn check_options(prefix: &str, at: i64) -> GetOptions {
    GetOptions::new()
        .with_range(end_of(prefix))
        .with_revision(at)
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_keys_only()
        .with_limit(1)
}

/// The keys of a service.
pub(crate) fn prefix(service: &ServiceName) -> String {
    format!("{RAW}/{}/", service.as_str().replace('/', "%2F"))
}

fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}

fn id(prefix: &str, key: &[u8]) -> Result<InstanceId> {
    let id = key.strip_prefix(prefix.as_bytes()).context("a key of another service")?;
    Ok(InstanceId::new(str::from_utf8(id)?)?)
}

/// As a claim that takes nothing over.
fn transaction(key: &str, record: &[u8], lease: i64) -> Txn {
    let ours = || Compare::lease(key, CompareOp::Equal, lease);
    let same = Compare::value(key, CompareOp::Equal, record);
    let vacant = Compare::create_revision(key, CompareOp::Equal, 0);
    let read = || TxnOp::get(key, None);
    let put = || {
        let options = PutOptions::new().with_lease(lease).with_prev_key();
        TxnOp::put(key, record, Some(options))
    };
    let unless_taken = Txn::new().when([vacant]).and_then([put()]).or_else([read()]);
    let unless_ours = Txn::new().when([ours()]).and_then([put()]);
    let change = TxnOp::txn(unless_ours.or_else([TxnOp::txn(unless_taken)]));
    Txn::new().when([ours(), same]).and_then([read()]).or_else([change])
}

/// The registry, with a check of the record at every renewal.
#[derive(Clone)]
pub(crate) struct WithRecordCheck {
    /// Registers: the other registry does not know the lease, so its first renewal checks the record.
    pub(crate) registrant: Ours,
    pub(crate) ours: Ours,
}

impl Arm for WithRecordCheck {
    type Lease = Lease;
    type Cursor = Cursor;
    type Watch = Watch;

    async fn register(&self, request: &Request) -> Result<Lease> {
        let lease = self.registrant.register(request).await?;
        // And once per ttl: with the shortest ttl, at each renewal.
        let (at_once, instance) = (Duration::from_nanos(1), lease.instance());
        Ok(Lease::new(lease.id(), at_once, Instance::clone(instance), lease.revision()))
    }

    async fn keep_alive(&self, lease: &Lease) -> Result<()> {
        self.ours.keep_alive(lease).await
    }

    async fn deregister(&self, lease: Lease) -> Result<()> {
        self.registrant.deregister(lease).await
    }

    async fn load(&self, service: &ServiceName) -> Result<usize> {
        self.ours.load(service).await
    }

    async fn cursor(&self, service: &ServiceName) -> Result<Cursor> {
        self.ours.cursor(service).await
    }

    async fn watch(&self, service: &ServiceName, cursor: &Cursor) -> Result<Watch> {
        self.ours.watch(service, cursor).await
    }

    async fn next(&self, watch: &mut Watch) -> Result<Vec<Change>> {
        self.ours.next(watch).await
    }
}
