//! Reads of what stands in the store, in pages that all show one revision.

use crate::client::{Client, cluster_and_revision};
use crate::cursor::Proof;
use crate::error::Reason;
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
    let listing = list(client, keys.start(), GetOptions::new()).await?;
    let mut proof = Proof::new(listing.cluster);
    let mut instances = Vec::with_capacity(listing.kvs.len());
    let mut skipped = None;
    for kv in &listing.kvs {
        proof.add(kv.into());
        match keys.read(kv.key(), kv.value()) {
            Ok(instance) => instances.push(instance),
            Err(why) => skipped = Some((kv.key(), why)),
        }
    }
    let undecodable = listing.kvs.len() - instances.len();
    if let Some((key, why)) = skipped {
        let key = key.escape_ascii();
        tracing::warn!(undecodable, %key, %why, "skipped what cannot be decoded, such as this key");
    }
    let cursor = keys.origin().cursor(Revision::new(listing.revision), proof);
    let newest = listing.kvs.iter().max_by_key(|kv| kv.mod_revision());
    let newest = newest.map(|kv| kv.key().to_vec());
    Ok((Snapshot::new(cursor, instances).with_undecodable(undecodable), newest))
}

/// The names under which an instance has a key; whether its record can be decoded is not looked at.
pub(crate) async fn services(client: &Client, layout: &Layout) -> Result<BTreeSet<ServiceName>> {
    let listing = list(client, layout.root(), GetOptions::new().with_keys_only()).await?;
    Ok(listing.kvs.iter().filter_map(|kv| layout.service_of(kv.key())).collect())
}

/// All keys under a prefix, as of one revision.
struct Listing {
    cluster: u64,
    revision: u64,
    kvs: Vec<KeyValue>,
}

async fn list(client: &Client, prefix: &str, options: GetOptions) -> Result<Listing> {
    let options = options.with_range(end_of(prefix)).with_limit(PAGE_LEN);
    let mut page = client.range(prefix, options.clone()).await?;
    let (cluster, revision) = cluster_and_revision(page.header())?;
    let mut kvs = page.take_kvs();
    let options = options.with_revision(revision.cast_signed());
    while let Some(last) = kvs.last().filter(|_| page.more()) {
        let next = [last.key(), b"\0"].concat();
        page = client.range(next, options.clone()).await.map_err(|error| match error.reason() {
            Reason::Compacted | Reason::Diverged => {
                let message = "the history was cut between two pages of a read: repeat";
                Error::new(ErrorKind::Unavailable, message).with_source(error)
            }
            _ => error.into(),
        })?;
        kvs.append(&mut page.take_kvs());
    }
    Ok(Listing { cluster, revision, kvs })
}

/// What follows all keys under `prefix`, which ends with `/`. `0` is the byte after `/`.
fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}
