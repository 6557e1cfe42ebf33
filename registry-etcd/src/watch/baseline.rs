//! Checks that etcd still has the history of a cursor.

use crate::client::{Answered, Client};
use crate::cursor::{KeyMeta, Proof};
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use crate::load;
use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget};

/// The keys of a service at the revision of a cursor.
pub(super) struct Baseline {
    /// The key that was put last, if known.
    pub(super) newest: Option<Vec<u8>>,
    /// All keys, if the layout has side keys or one of the records is withdrawn. Otherwise empty.
    pub(super) kvs: Vec<KeyValue>,
}

impl Baseline {
    /// Reads the baseline and checks the cursor's proof against it.
    pub(super) async fn read(
        client: &Client,
        service: &ServiceLayout,
        proof: &Proof,
        revision: i64,
    ) -> Result<Self, EtcdError> {
        if !service.has_side_keys() && !proof.has_withdrawn() {
            let newest = check_at(client, service, proof, revision).await?;
            return Ok(Self { newest, kvs: Vec::new() });
        }
        let listing = load::list_at(client, service, revision.max(1)).await?;
        proof.check_cluster(listing.cluster)?;
        let newest = listing.newest();
        proof.check(listing.kvs.len() as u64, newest.map(KeyMeta::from))?;
        let newest = newest.map(|kv| kv.key().to_vec());
        Ok(Self { newest, kvs: listing.kvs })
    }
}

/// A summary of a service from one sorted Range: the number of keys, and the key that was put last.
pub(super) struct Summary {
    header: Answered,
    count: u64,
    newest: Option<KeyValue>,
}

impl Summary {
    /// Reads the current state.
    pub(super) async fn now(client: &Client, service: &ServiceLayout) -> Result<Self, EtcdError> {
        Self::read(client, service, GetOptions::new()).await
    }

    async fn read(
        client: &Client,
        service: &ServiceLayout,
        options: GetOptions,
    ) -> Result<Self, EtcdError> {
        // Reads the value too, since without it etcd 3.7 omits the lease of a key.
        let options = options
            .with_range(service.end())
            .with_sort(SortTarget::Mod, SortOrder::Descend)
            .with_limit(1);
        let mut found = client.range(service.start(), options).await?;
        let header = Answered::by(found.header())?;
        Ok(Self { header, count: found.count().unsigned_abs(), newest: found.take_kvs().pop() })
    }

    /// Returns the revision of the store at the time of the read.
    pub(super) fn revision(&self) -> u64 {
        self.header.revision
    }

    /// Checks a proof against this summary.
    pub(super) fn check(&self, proof: &Proof) -> Result<(), EtcdError> {
        proof.check_cluster(self.header.cluster)?;
        proof.check(self.count, self.newest.as_ref().map(KeyMeta::from))
    }
}

/// Checks the cursor's proof against the service at the cursor's revision. Returns the key that was put last
/// by then.
///
/// A watch could resume from one revision before the oldest readable one; this read refuses that, since deletions at
/// the compacted revision are lost (etcd issues 18089 and 19179).
pub(super) async fn check_at(
    client: &Client,
    service: &ServiceLayout,
    proof: &Proof,
    revision: i64,
) -> Result<Option<Vec<u8>>, EtcdError> {
    // 0 would mean the current revision. Revision 1 is the first one, and has no keys.
    let options = GetOptions::new().with_revision(revision.max(1));
    let summary = Summary::read(client, service, options).await?;
    summary.check(proof)?;
    Ok(summary.newest.map(|kv| kv.key().to_vec()))
}
