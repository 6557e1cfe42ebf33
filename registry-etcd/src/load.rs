//! Reads of what stands in the store, in pages that all show one revision.

use crate::client::{Client, cluster_and_revision};
use crate::cursor::Proof;
use crate::error::{EtcdError, Reason};
use crate::layout::{Layout, ServiceKeys};
use etcd_client::{GetOptions, KeyValue};
use registry_core::{Error, ErrorKind, Result, Revision, ServiceName, Snapshot};
use std::collections::BTreeSet;

/// How many keys are read at once.
const PAGE_LEN: i64 = 1000;

/// All instances of a service, and the key that was put last.
pub(crate) async fn load(
    client: &Client,
    keys: &ServiceKeys,
) -> Result<(Snapshot, Option<Vec<u8>>)> {
    let listing = list(client, keys, None).await.map_err(|error| match error.reason() {
        Reason::Compacted | Reason::Diverged => cut(error),
        _ => error.into(),
    })?;
    let mut proof = Proof::new(listing.cluster);
    for kv in &listing.kvs {
        proof.add(kv.into());
    }
    let reading = keys.read_all(&listing.kvs);
    let undecodable = reading.skipped.undecodable;
    if let Some((key, why)) = reading.skipped.example {
        tracing::warn!(undecodable, %key, %why, "skipped what cannot be decoded, such as this key");
    }
    let cursor = keys.origin().cursor(Revision::new(listing.revision), proof);
    let newest = listing.newest().map(|kv| kv.key().to_vec());
    Ok((Snapshot::new(cursor, reading.instances).with_undecodable(undecodable), newest))
}

/// The names under which an instance has a key. Where a key alone tells that it is an instance's,
/// its value is not looked at.
pub(crate) async fn services(client: &Client, layout: &Layout) -> Result<BTreeSet<ServiceName>> {
    let mut options = GetOptions::new();
    if layout.keys_suffice() {
        options = options.with_keys_only();
    }
    let (start, end) = layout.range();
    let mut names = BTreeSet::new();
    // Page by page: it may be all that an etcd holds.
    let read = pages(client, &start, options.with_range(end), None, |kvs| {
        names.extend(kvs.iter().filter_map(|kv| layout.service_of(kv.key(), kv.value())));
    });
    match read.await {
        Ok(_) => Ok(names),
        Err(error) if matches!(error.reason(), Reason::Compacted | Reason::Diverged) => {
            Err(cut(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// All keys of a service, as of one revision.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) cluster: u64,
    /// The store's own when it was read. What is listed is as of then, unless another was asked
    /// for.
    pub(crate) revision: u64,
    pub(crate) kvs: Vec<KeyValue>,
}

impl Listing {
    /// The key that was put last.
    pub(crate) fn newest(&self) -> Option<&KeyValue> {
        self.kvs.iter().max_by_key(|kv| kv.mod_revision())
    }
}

/// All keys of a service as of the revision `at`, 1 or later.
///
/// # Errors
///
/// `Compacted` if etcd no longer holds it, `Diverged` if it does not hold it yet.
pub(crate) async fn list_at(
    client: &Client,
    keys: &ServiceKeys,
    at: i64,
) -> Result<Listing, EtcdError> {
    list(client, keys, Some(at)).await
}

async fn list(client: &Client, keys: &ServiceKeys, at: Option<i64>) -> Result<Listing, EtcdError> {
    let (options, mut kvs) = (GetOptions::new().with_range(keys.end()), Vec::new());
    let read = pages(client, keys.start(), options, at, |mut page| kvs.append(&mut page));
    let (cluster, revision) = read.await?;
    Ok(Listing { cluster, revision, kvs })
}

/// Reads page by page, all as of the revision `at`, or else of the one that the first page shows.
/// Gives the cluster, and its revision then.
async fn pages(
    client: &Client,
    start: &str,
    options: GetOptions,
    at: Option<i64>,
    mut read: impl FnMut(Vec<KeyValue>),
) -> Result<(u64, u64), EtcdError> {
    let options = options.with_limit(PAGE_LEN);
    let first = options.clone().with_revision(at.unwrap_or(0));
    let mut page = client.range(start, first).await?;
    let (cluster, revision) = cluster_and_revision(page.header())?;
    let options = options.with_revision(at.unwrap_or_else(|| revision.cast_signed()));
    loop {
        let (kvs, more) = (page.take_kvs(), page.more());
        let next = kvs.last().filter(|_| more).map(|last| [last.key(), b"\0"].concat());
        read(kvs);
        let Some(next) = next else { return Ok((cluster, revision)) };
        page = client.range(next, options.clone()).await?;
    }
}

/// The revision that the first page showed is not there any more.
fn cut(error: EtcdError) -> Error {
    let message = "the history was cut between two pages of a read: repeat";
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}
