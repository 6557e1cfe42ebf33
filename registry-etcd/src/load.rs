//! Reads of services, in pages of one revision.

use crate::client::Client;
use crate::cursor::Proof;
use crate::error::{EtcdError, Reason};
use crate::layout::keyspace::Keyspace;
use crate::layout::reading::Reading;
use crate::layout::service::{Kv, ServiceLayout};
use crate::pages::pages;
use etcd_client::{GetOptions, KeyValue};
use registry_core::{Consistency, Error, ErrorKind, Result, Revision, ServiceName, Snapshot};
use std::collections::BTreeSet;

/// A loaded service.
pub(crate) struct Loaded {
    pub(crate) snapshot: Snapshot,
    /// The key that was put last.
    pub(crate) newest: Option<Vec<u8>>,
    /// Whether a withdrawn record was skipped, in a layout without side keys.
    pub(crate) has_withdrawn: bool,
}

/// Loads all records of a service.
pub(crate) async fn load(
    client: &Client,
    service: &ServiceLayout,
    consistency: Consistency,
) -> Result<Loaded> {
    let (mut proof, mut newest) = (Proof::default(), NewestKey::default());
    let (mut reading, mut kept) = (Reading::default(), Vec::new());
    let mut options = GetOptions::new().with_range(service.end());
    if consistency == Consistency::Stale {
        options = options.with_serializable();
    }
    let read = pages(client, service.start(), options, None, |mut kvs| {
        for kv in &kvs {
            proof.add(kv.into());
            newest.observe(kv);
        }
        if service.has_side_keys() {
            kept.append(&mut kvs); // a key and its side key may be on different pages
        } else {
            reading.merge(Reading::of(service, kvs.iter().map(Kv::from)));
        }
    });
    let answered = read.await.map_err(as_unavailable)?;
    if service.has_side_keys() {
        reading = Reading::of(service, kept.iter().map(Kv::from));
    }
    let Reading { records, has_withdrawn, undecodable, example } = reading;
    if let Some((key, why)) = example {
        tracing::warn!(undecodable, %key, %why, "skipped keys that cannot be decoded, such as this one");
    }
    let proof = proof.with_cluster(answered.cluster).with_withdrawn(has_withdrawn);
    let cursor = service.origin().cursor(Revision::new(answered.revision), proof);
    let snapshot = Snapshot::new(cursor, records).with_undecodable(undecodable);
    let snapshot = snapshot.with_lineage(answered.lineage());
    Ok(Loaded { snapshot, newest: newest.key, has_withdrawn })
}

/// The key that was put last.
#[derive(Default)]
struct NewestKey {
    revision: i64,
    key: Option<Vec<u8>>,
}

impl NewestKey {
    fn observe(&mut self, kv: &KeyValue) {
        if kv.mod_revision() > self.revision {
            (self.revision, self.key) = (kv.mod_revision(), Some(kv.key().to_vec()));
        }
    }
}

/// Returns the names of the services that have an instance key. Reads no values.
pub(crate) async fn services(
    client: &Client,
    keyspace: &Keyspace,
) -> Result<BTreeSet<ServiceName>> {
    let (layout, (start, end)) = (keyspace.layout(), keyspace.range());
    let options = GetOptions::new().with_range(end).with_keys_only();
    let mut names = BTreeSet::new();
    // Page by page, since the range may be the whole of etcd.
    let read = pages(client, &start, options, None, |kvs| {
        names.extend(kvs.iter().filter_map(|kv| layout.service_of(kv.key())));
    });
    read.await.map_err(as_unavailable)?;
    Ok(names)
}

/// All keys of a service at one revision.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) cluster: u64,
    pub(crate) kvs: Vec<KeyValue>,
}

impl Listing {
    /// Returns the key that was put last.
    pub(crate) fn newest(&self) -> Option<&KeyValue> {
        self.kvs.iter().max_by_key(|kv| kv.mod_revision())
    }
}

/// Reads all keys of a service at the revision `at`, which is 1 or later.
///
/// # Errors
///
/// `Compacted` if etcd no longer holds it, `Diverged` if it does not hold it yet.
pub(crate) async fn list_at(
    client: &Client,
    service: &ServiceLayout,
    at: i64,
) -> Result<Listing, EtcdError> {
    let (options, mut kvs) = (GetOptions::new().with_range(service.end()), Vec::new());
    let read = pages(client, service.start(), options, Some(at), |mut page| kvs.append(&mut page));
    let cluster = read.await?.cluster;
    Ok(Listing { cluster, kvs })
}

/// Maps the loss of the first page's revision to `Unavailable`, since a retry reads another revision.
fn as_unavailable(error: EtcdError) -> Error {
    if !matches!(error.reason(), Reason::Compacted | Reason::Diverged) {
        return error.into();
    }
    let message = "the history was compacted or rolled back between two pages of a read: retry";
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}
