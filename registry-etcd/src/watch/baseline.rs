//! Checks that the history of a cursor is the one that etcd holds.

use crate::client::{Client, cluster_and_revision};
use crate::cursor::{Proof, Stamp};
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use crate::load;
use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget};

/// What stood in a service at a cursor.
pub(super) struct Past {
    /// The key that was put last, if it is known.
    pub(super) newest: Option<Vec<u8>>,
    /// All service, where events do not speak for themselves.
    pub(super) standing: Vec<KeyValue>,
}

impl Past {
    /// Reads it, and holds the cursor's proof against it.
    pub(super) async fn read(
        client: &Client,
        service: &ServiceLayout,
        proof: &Proof,
        at: i64,
    ) -> Result<Self, EtcdError> {
        if !service.has_side_keys() {
            let newest = check(client, service, proof, at).await?;
            return Ok(Self { newest, standing: Vec::new() });
        }
        let listing = load::list_at(client, service, at.max(1)).await?;
        proof.check_cluster(listing.cluster)?;
        let newest = listing.newest();
        proof.check(listing.kvs.len() as u64, newest.map(Stamp::from))?;
        let newest = newest.map(|kv| kv.key().to_vec());
        Ok(Self { newest, standing: listing.kvs })
    }
}

/// Holds the cursor's proof against the service as it stood at the cursor's revision. Gives the key
/// that was put last by then.
///
/// etcd reads down to the revision it was compacted at, and including it. So does this, though a
/// watch could start one earlier: at the compacted revision itself deletions are lost (etcd issues
/// 18089 and 19179).
pub(super) async fn check(
    client: &Client,
    service: &ServiceLayout,
    proof: &Proof,
    at: i64,
) -> Result<Option<Vec<u8>>, EtcdError> {
    let newest = GetOptions::new()
        .with_range(service.end())
        // 0 would mean the newest. No etcd is at a revision before 1, which has no keys.
        .with_revision(at.max(1))
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_keys_only()
        .with_limit(1);
    let standing = client.range(service.start(), newest).await?;
    let (cluster, _) = cluster_and_revision(standing.header())?;
    proof.check_cluster(cluster)?;
    let newest = standing.kvs().first();
    proof.check(standing.count().unsigned_abs(), newest.map(Stamp::from))?;
    Ok(newest.map(|kv| kv.key().to_vec()))
}
