//! Checks that the history of a cursor is the one that etcd holds.

use crate::client::{Answered, Client};
use crate::cursor::{KeyMeta, Proof};
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use crate::load;
use etcd_client::{GetOptions, KeyValue, SortOrder, SortTarget};

/// The keys of a service at the revision of a cursor.
pub(super) struct Baseline {
    /// The key that was put last, if it is known.
    pub(super) newest: Option<Vec<u8>>,
    /// All keys, if the layout has side keys, or if a record among them is withdrawn.
    pub(super) kvs: Vec<KeyValue>,
}

impl Baseline {
    /// Reads it, and holds the cursor's proof against it.
    pub(super) async fn read(
        client: &Client,
        service: &ServiceLayout,
        proof: &Proof,
        at: i64,
    ) -> Result<Self, EtcdError> {
        if !service.has_side_keys() && !proof.has_withdrawn() {
            let newest = check(client, service, proof, at).await?;
            return Ok(Self { newest, kvs: Vec::new() });
        }
        let listing = load::list_at(client, service, at.max(1)).await?;
        proof.check_cluster(listing.cluster)?;
        let newest = listing.newest();
        proof.check(listing.kvs.len() as u64, newest.map(KeyMeta::from))?;
        let newest = newest.map(|kv| kv.key().to_vec());
        Ok(Self { newest, kvs: listing.kvs })
    }
}

/// What one sorted Range tells of a service: how many keys there are, and which was put last.
pub(super) struct Survey {
    answered: Answered,
    count: u64,
    newest: Option<KeyValue>,
}

impl Survey {
    /// Reads it as it is now.
    pub(super) async fn now(client: &Client, service: &ServiceLayout) -> Result<Self, EtcdError> {
        Self::read(client, service, GetOptions::new()).await
    }

    async fn read(
        client: &Client,
        service: &ServiceLayout,
        options: GetOptions,
    ) -> Result<Self, EtcdError> {
        // With its value: without it, etcd 3.7 does not tell the lease of a key.
        let newest = options
            .with_range(service.end())
            .with_sort(SortTarget::Mod, SortOrder::Descend)
            .with_limit(1);
        let mut found = client.range(service.start(), newest).await?;
        let answered = Answered::by(found.header())?;
        Ok(Self { answered, count: found.count().unsigned_abs(), newest: found.take_kvs().pop() })
    }

    /// The revision of the store by then.
    pub(super) fn revision(&self) -> u64 {
        self.answered.revision
    }

    /// Holds a proof against it.
    pub(super) fn check(&self, proof: &Proof) -> Result<(), EtcdError> {
        proof.check_cluster(self.answered.cluster)?;
        proof.check(self.count, self.newest.as_ref().map(KeyMeta::from))
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
    // 0 would mean the newest. No etcd is at a revision before 1, which has no keys.
    let survey = Survey::read(client, service, GetOptions::new().with_revision(at.max(1))).await?;
    survey.check(proof)?;
    Ok(survey.newest.map(|kv| kv.key().to_vec()))
}
