//! The own-record watch: the owner of a lease watches its record.

use super::Streams;
use super::baseline::check_at;
use super::feed::Feed;
use crate::client::Client;
use crate::cursor::{History, KeyMeta, Proof};
use crate::error::EtcdError;
use crate::holding::Found;
use crate::layout::decoder::Decoder;
use crate::layout::keyspace::{DesiredKey, DesiredKeys, Keyspace};
use crate::layout::service::ServiceLayout;
use crate::presence;
use crate::txn;
use etcd_client::{GetOptions, Txn, TxnOp};
use futures_util::StreamExt;
use futures_util::future::try_join;
use futures_util::stream::{self, SelectAll};
use registry_core::encoding::Stored;
use registry_core::{
    Batch, Change, Cursor, DeleteReason, Deleted, InstanceId, Lease, Result, Revision, Watch,
};
use std::sync::Arc;

impl Streams {
    /// Watches the keys of `lease`.
    ///
    /// The watch starts at the revision at which the keys were verified, so it does not depend on older
    /// history, which may be compacted.
    pub(crate) async fn watch_record(
        &self,
        client: &Client,
        keyspace: &Keyspace,
        lease: &Lease,
    ) -> Result<Watch> {
        let found = presence::verify(client, keyspace, lease).await?;
        let (desired, service) = (keyspace.acknowledged(lease)?, lease.instance().service());
        let open = async |key| {
            let one_key = keyspace.one_key(&desired, key, service)?;
            let proof = proof_of(key, lease, found.cluster);
            let is_pair = one_key.has_side_keys();
            let revision = found.revision;
            let opened = self.open(client, &one_key, revision.cast_signed()).await?;
            proof.check_cluster(opened.answered.cluster)?;
            if opened.answered.revision < revision {
                Box::pin(check_at(client, &one_key, &proof, revision.cast_signed())).await?;
            }
            let cursor = one_key.origin().cursor(Revision::new(revision), &proof);
            let history = History::new(proof, Some(key.name.as_bytes()));
            let decoder = if is_pair {
                Decoder::undecoded(one_key.clone())
            } else {
                Decoder::new(one_key.clone(), std::iter::empty())
            };
            let feed = Feed::new(one_key, decoder, history, revision);
            Ok::<_, registry_core::Error>(opened.handle.start(feed, cursor))
        };
        let Some(side) = &desired.side else {
            return Ok(open(&desired.key).await?.with_lineage(found.lineage()));
        };
        let (of_key, of_side) = try_join(open(&desired.key), open(side)).await?;
        let (after, last) = (of_key.cursor().clone(), Revision::new(found.revision));
        let (client, id) = (client.clone(), lease.instance().id().clone());
        let pair = Pair { client, service: keyspace.service(service)?, desired, id };
        let events = stream::select_all([of_key, of_side]);
        let watch = Merged { pair, events, last, is_live: true }.into_watch(after);
        Ok(watch.with_lineage(found.lineage()))
    }
}

/// Returns the proof of a range with one key, as acknowledged.
fn proof_of(key: &DesiredKey, lease: &Lease, cluster: u64) -> Proof {
    let mut proof = Proof::new(cluster);
    if key.value.is_some() {
        let modified = lease.revision().get();
        let (name, lease) = (key.name.as_bytes(), lease.id().get());
        proof.add(KeyMeta { key: name, created: modified, modified, lease });
    }
    proof
}

/// The watches of a key and its side key, merged into one.
///
/// Both watches report the events of one revision separately. So on any event, both keys are read at its revision.
struct Merged {
    pair: Pair,
    events: SelectAll<Watch>,
    last: Revision,
    is_live: bool,
}

impl Merged {
    fn into_watch(self, after: Cursor) -> Watch {
        let batches = stream::unfold(self, |mut merged| async move {
            let batch = merged.next().await?;
            Some((batch, merged))
        });
        Watch::new(after, batches)
    }

    async fn next(&mut self) -> Option<Result<Arc<Batch>>> {
        loop {
            let event = match self.events.next().await? {
                Ok(event) => event,
                Err(error) => return Some(Err(error)),
            };
            // The progress of one watch says nothing about the other.
            if event.is_progress() || event.revision() <= self.last {
                continue;
            }
            self.last = event.revision();
            let change = match self.pair.change_at(event.revision()).await {
                Ok(change) => change,
                Err(error) => return Some(Err(error.into())),
            };
            let was_live = std::mem::replace(&mut self.is_live, matches!(change, Change::Put(_)));
            if was_live || self.is_live {
                return Some(Ok(Arc::new(Batch::new(event.cursor.clone(), vec![change]))));
            }
        }
    }
}

/// A key and its side key.
struct Pair {
    client: Client,
    service: ServiceLayout,
    desired: DesiredKeys,
    id: InstanceId,
}

impl Pair {
    /// Returns the change of the record at a revision at which one of the keys changed.
    async fn change_at(&self, revision: Revision) -> Result<Change, EtcdError> {
        let options = GetOptions::new().with_revision(revision.get().cast_signed());
        let reads = self.desired.keys().map(|key| TxnOp::get(&*key.name, Some(options.clone())));
        let answer = self.client.txn(Txn::new().and_then(reads.collect::<Vec<_>>())).await?;
        let found = txn::reads(&answer)?;
        let deleted = Deleted::new(self.id.clone());
        Ok(match Found::new(&found).decode(&self.service, &self.id) {
            Ok(Some(Stored::Live(record))) => Change::Put(record),
            Ok(Some(Stored::Withdrawn(_))) => {
                Change::Delete(deleted.with_reason(DeleteReason::Withdrawn))
            }
            Ok(None) | Err(_) => Change::Delete(deleted),
        })
    }
}
