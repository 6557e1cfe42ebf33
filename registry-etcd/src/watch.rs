//! A watch: one stream from etcd, read by a task of its own.

use crate::client::{Client, cluster_and_revision};
use crate::cursor::{History, Proof, Stamp};
use crate::error::EtcdError;
use crate::layout::{Decoder, ServiceKeys};
use crate::load;
use etcd_client::{
    EventType, GetOptions, KeyValue, SortOrder, SortTarget, WatchResponse, WatchStream,
};
use futures_util::future;
use registry_core::{Batch, Change, Cursor, Publisher, Result, Revision, Watch};

/// Watches the keys of a service from after a cursor on.
///
/// The stream is opened and the cursor's proof is checked at the same time, and nothing is
/// delivered before both went well.
pub(crate) async fn watch(client: &Client, keys: ServiceKeys, after: &Cursor) -> Result<Watch> {
    let proof: Proof = keys.origin().proof(after)?;
    let revision = after.revision().get();
    // No etcd gets as far as i64::MAX, so it answers that this is the future.
    let at = i64::try_from(revision).unwrap_or(i64::MAX);
    let (stream, standing) =
        future::try_join(open(client, &keys, &proof, at), check(client, &keys, &proof, at)).await?;
    let history = History::new(proof, newest(&standing).map(Stamp::from));
    let (publisher, watch) = Watch::channel(after.clone(), Vec::new());
    let feed = Feed { decoder: Decoder::new(keys, &standing), history, revision };
    tokio::spawn(feed.run(stream, publisher));
    Ok(watch)
}

/// Opens the stream.
async fn open(
    client: &Client,
    keys: &ServiceKeys,
    proof: &Proof,
    after: i64,
) -> Result<WatchStream> {
    let (stream, first) = client.watch(keys.start(), keys.end(), after.saturating_add(1)).await?;
    if first.canceled() {
        return Err(cancellation(&first).into());
    }
    if !first.created() {
        return Err(EtcdError::Malformed("the creation of a watch").into());
    }
    // A watch of the future is silent until the future comes. Either the member lags, and this
    // waits for it; or the store was rolled back, and then the check that runs beside may be from
    // before.
    let (cluster, revision) = cluster_and_revision(first.header())?;
    proof.check_cluster(cluster)?;
    if revision < after.unsigned_abs() {
        check(client, keys, proof, after).await?;
    }
    Ok(stream)
}

/// Holds the cursor's proof against the service as it stood at the cursor's revision. Gives all
/// that stood there, or where events speak for themselves, the newest key.
///
/// etcd reads down to the revision it was compacted at, and including it. So does this, though a
/// watch could start one earlier: at the compacted revision itself deletions are lost (etcd issues
/// 18089 and 19179).
async fn check(
    client: &Client,
    keys: &ServiceKeys,
    proof: &Proof,
    at: i64,
) -> Result<Vec<KeyValue>> {
    // 0 would mean the newest. No etcd is at a revision before 1, which has no keys.
    let at = at.max(1);
    let (cluster, count, standing) = if keys.needs_state() {
        let options = GetOptions::new();
        let listing = load::list_at(client, keys.start(), keys.end(), options, at).await?;
        (listing.cluster, listing.kvs.len() as u64, listing.kvs)
    } else {
        let newest = GetOptions::new()
            .with_range(keys.end())
            .with_revision(at)
            .with_sort(SortTarget::Mod, SortOrder::Descend)
            .with_keys_only()
            .with_limit(1);
        let mut standing = client.range(keys.start(), newest).await?;
        let (cluster, _) = cluster_and_revision(standing.header())?;
        (cluster, standing.count().unsigned_abs(), standing.take_kvs())
    };
    proof.check_cluster(cluster)?;
    proof.check(count, newest(&standing).map(Stamp::from))?;
    Ok(standing)
}

/// The key that was put last.
fn newest(standing: &[KeyValue]) -> Option<&KeyValue> {
    standing.iter().max_by_key(|kv| kv.mod_revision())
}

/// Turns what etcd says into batches, without ever waiting for the reader: the streams of one
/// connection share its flow control, so one that nobody drains would stall all others.
struct Feed {
    decoder: Decoder,
    history: History,
    /// How far the watch has come.
    revision: u64,
}

impl Feed {
    /// Runs until nobody holds the watch any more, or it fails. To drop the stream is to cancel it.
    async fn run(mut self, mut stream: WatchStream, mut publisher: Publisher) {
        loop {
            let answer = tokio::select! {
                biased;
                () = publisher.closed() => return,
                answer = stream.message() => answer,
            };
            let read = match answer {
                Ok(Some(response)) => self.read(&response),
                Ok(None) => Err(EtcdError::Ended),
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(batches) => {
                    if !batches.into_iter().all(|batch| publisher.publish(batch)) {
                        return;
                    }
                }
                Err(error) => return publisher.fail(error.into()),
            }
            // After a standstill of the process, responses wait in thousands. A reader on this
            // thread gets its turn between them, or it would lag through no fault of its own.
            tokio::task::yield_now().await;
        }
    }

    /// The batches of one response.
    ///
    /// etcd never splits a revision over two responses, unless asked to fragment them.
    fn read(&mut self, response: &WatchResponse) -> Result<Vec<Batch>, EtcdError> {
        if response.canceled() {
            return Err(cancellation(response));
        }
        if response.events().is_empty() {
            // Only the notification of this watch tells how far it has come. The reply to a request
            // for progress, id -1, overtakes events (etcd issue 15220).
            let (_, revision) = cluster_and_revision(response.header())?;
            let moves = response.watch_id() >= 0 && revision > self.revision;
            return Ok(if moves { vec![self.move_to(revision, Vec::new())] } else { Vec::new() });
        }
        // The header's revision may be ahead of a backlog's events: theirs are what counts.
        let mut events = Vec::with_capacity(response.events().len());
        for event in response.events() {
            events.push((event.event_type(), event.kv().ok_or(EtcdError::Malformed("a key"))?));
        }
        let revisions = events.chunk_by(|(_, a), (_, b)| a.mod_revision() == b.mod_revision());
        Ok(revisions.filter_map(|events| self.batch(events)).collect())
    }

    /// The batch of one revision, unless it was read before: etcd issues 15275 and 20221.
    fn batch(&mut self, events: &[(EventType, &KeyValue)]) -> Option<Batch> {
        let revision = Stamp::from(events[0].1).modified;
        if revision <= self.revision {
            return None;
        }
        for (kind, kv) in events {
            self.history.advance(*kind, (*kv).into());
        }
        let changes = self.decoder.changes(events);
        Some(self.move_to(revision, changes))
    }

    fn move_to(&mut self, revision: u64, changes: Vec<Change>) -> Batch {
        self.revision = revision;
        let proof = self.history.proof();
        Batch::new(self.decoder.origin().cursor(Revision::new(revision), proof), changes)
    }
}

/// Why etcd canceled a watch. A compaction is told by its revision; it gives no reason.
fn cancellation(response: &WatchResponse) -> EtcdError {
    match response.compact_revision() {
        0 => EtcdError::Canceled(response.cancel_reason().to_owned()),
        revision => EtcdError::Compacted(revision),
    }
}
