//! Reads of what stands in the store, in pages that all show one revision.

use crate::client::{Client, cluster_and_revision};
use crate::cursor::Proof;
use crate::error::{EtcdError, Reason};
use crate::layout::{Layout, ServiceKeys};
use etcd_client::{GetOptions, GetResponse, KeyValue};
use futures_util::future;
use registry_core::{Error, ErrorKind, Result, Revision, ServiceName, Snapshot};
use std::collections::BTreeSet;
use tokio::task::yield_now;

/// How many keys the first page holds, and any other at least.
const PAGE_LEN: usize = 1000;

/// How many keys a page holds at most. For each page etcd counts all keys that are left, so that few
/// large ones are cheaper.
pub(crate) const MAX_PAGE_LEN: usize = 5000;

/// How many bytes the pages after the first are to have.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// How many keys are read until others on the thread get their turn.
const TURN: usize = 256;

/// All instances of a service, and the key that was put last.
pub(crate) async fn load(
    client: &Client,
    keys: &ServiceKeys,
) -> Result<(Snapshot, Option<Vec<u8>>)> {
    let mut listing = Listing::begin(client, keys.start(), GetOptions::new()).await?;
    let mut proof = Proof::new(listing.cluster);
    let (mut instances, mut undecodable, mut skipped) = (Vec::new(), 0, None);
    let mut newest: Option<KeyValue> = None;
    let each = |kv: KeyValue| {
        proof.add((&kv).into());
        match keys.read(kv.key(), kv.value()) {
            Ok(instance) => instances.push(instance),
            Err(why) => {
                undecodable += 1;
                skipped = Some((kv.key().escape_ascii().to_string(), why));
            }
        }
        if newest.as_ref().is_none_or(|newest| newest.mod_revision() <= kv.mod_revision()) {
            newest = Some(kv);
        }
    };
    listing.read(each).await?;
    if let Some((key, why)) = skipped {
        tracing::warn!(undecodable, %key, %why, "skipped what cannot be decoded, such as this key");
    }
    let cursor = keys.origin().cursor(Revision::new(listing.revision), proof);
    let newest = newest.map(|kv| kv.key().to_vec());
    Ok((Snapshot::new(cursor, instances).with_undecodable(undecodable), newest))
}

/// The names under which an instance has a key; whether its record can be decoded is not looked at.
pub(crate) async fn services(client: &Client, layout: &Layout) -> Result<BTreeSet<ServiceName>> {
    let keys_only = GetOptions::new().with_keys_only();
    let mut listing = Listing::begin(client, layout.root(), keys_only).await?;
    let mut names = BTreeSet::new();
    listing.read(|kv| names.extend(layout.service_of(kv.key()))).await?;
    Ok(names)
}

/// All keys under a prefix, as of one revision.
struct Listing<'a> {
    client: &'a Client,
    options: GetOptions,
    cluster: u64,
    revision: u64,
    page: GetResponse,
}

impl<'a> Listing<'a> {
    /// Reads the first page.
    async fn begin(client: &'a Client, prefix: &str, options: GetOptions) -> Result<Self> {
        let options = options.with_range(end_of(prefix));
        let page = client.range(prefix, options.clone().with_limit(as_limit(PAGE_LEN))).await?;
        let (cluster, revision) = cluster_and_revision(page.header())?;
        let options = options.with_revision(revision.cast_signed());
        Ok(Self { client, options, cluster, revision, page })
    }

    /// Reads the other pages, and gives each key to `each`: those of one page while etcd looks for the
    /// next.
    async fn read(&mut self, mut each: impl FnMut(KeyValue) + Send) -> Result<()> {
        loop {
            let kvs = self.page.take_kvs();
            let Some(last) = kvs.last().filter(|_| self.page.more()) else {
                give(kvs, &mut each).await;
                return Ok(());
            };
            let options = self.options.clone().with_limit(as_limit(len_after(&kvs)));
            let next = self.client.range([last.key(), b"\0"].concat(), options);
            let given = async {
                yield_now().await; // so that the request is sent before
                give(kvs, &mut each).await;
            };
            let (next, ()) = future::join(next, given).await;
            self.page = next.map_err(cut)?;
        }
    }
}

/// Gives each key to `each`, and between some of them the thread to others, such as the task that
/// receives.
async fn give(kvs: Vec<KeyValue>, each: &mut (impl FnMut(KeyValue) + Send)) {
    for (n, kv) in kvs.into_iter().enumerate() {
        each(kv);
        if n % TURN == TURN - 1 {
            yield_now().await;
        }
    }
}

/// How many keys to read next, if they are as large as these.
fn len_after(kvs: &[KeyValue]) -> usize {
    let bytes: usize = kvs.iter().map(|kv| kv.key().len() + kv.value().len()).sum();
    (PAGE_BYTES * kvs.len() / bytes.max(1)).clamp(PAGE_LEN, MAX_PAGE_LEN)
}

fn as_limit(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn cut(error: EtcdError) -> Error {
    match error.reason() {
        Reason::Compacted | Reason::Diverged => {
            let message = "the history was cut between two pages of a read: repeat";
            Error::new(ErrorKind::Unavailable, message).with_source(error)
        }
        _ => error.into(),
    }
}

/// What follows all keys under `prefix`, which ends with `/`. `0` is the byte after `/`.
fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}
