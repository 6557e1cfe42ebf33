//! Watches: all watchers of a registry share one gRPC stream.

mod baseline;
mod feed;
mod fragments;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod own_record;
mod silence;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod versions;

use self::baseline::{Baseline, Summary, check_at};
use self::feed::{Feed, cancellation};
use self::stream::{PendingWatcher, Stream, WatcherHandle};
use crate::client::{Answered, Client};
use crate::cursor::{History, Proof};
use crate::error::EtcdError;
use crate::layout::decoder::Decoder;
use crate::layout::service::{Kv, ServiceLayout};
use crate::load::Loaded;
use futures_util::future;
use registry_core::{BacklogEnd, Cursor, Result, Watch};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// The stream for new watches. A clone shares it.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Inner>);

#[derive(Default)]
struct Inner {
    current: Mutex<Option<Arc<Stream>>>,
    /// The lock is held while a stream is being opened.
    opening: tokio::sync::Mutex<()>,
}

/// A watcher that etcd has created.
struct CreatedWatcher {
    handle: WatcherHandle,
    answered: Answered,
}

impl Streams {
    /// Watches the keys of a service after a cursor.
    ///
    /// The watcher is created and the cursor's proof is checked concurrently, and nothing is delivered before
    /// both succeed. A cursor that was [verified](Self::begin_load) when loaded needs no check.
    pub(crate) async fn watch(
        &self,
        client: &Client,
        service: ServiceLayout,
        after: &Cursor,
    ) -> Result<Watch> {
        let proof: Proof = service.origin().proof(after)?;
        let revision = after.revision().get();
        // No store reaches revision i64::MAX, so etcd reports it as a future revision.
        let signed_revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let verified = self.open_verified(client, &service, after).await;
        let is_verified = verified.is_some();
        let (opened, baseline, found) = if let Some(verified) = verified {
            let (opened, baseline) = verified?;
            (opened, baseline, None)
        } else {
            // Boxed because this path is rare, but its largest step would determine the size of each of
            // thousands of watch futures.
            let opening = self.open(client, &service, signed_revision);
            let reading = Baseline::read(client, &service, &proof, signed_revision);
            let summary = Summary::now(client, &service);
            let (opened, baseline, found) =
                Box::pin(future::try_join3(opening, reading, summary)).await?;
            (opened, baseline, Some(found))
        };
        let CreatedWatcher { handle, answered } = opened;
        proof.check_cluster(answered.cluster)?;
        // If etcd's revision is before the cursor, either the member lags, and this check waits for it, or
        // the store was rolled back, and the concurrent check may have run before that. If it is after an
        // unchecked cursor, the history in between may be compacted.
        let found = if is_verified && answered.revision > revision {
            let checked = check_at(client, &service, &proof, signed_revision);
            let summary = Summary::now(client, &service);
            Some(Box::pin(future::try_join(checked, summary)).await?.1)
        } else {
            if answered.revision < revision {
                Box::pin(check_at(client, &service, &proof, signed_revision)).await?;
            }
            found
        };
        let history = History::new(proof, baseline.newest.as_deref());
        let decoder = Decoder::new(service.clone(), baseline.kvs.iter().map(Kv::from));
        let feed = Feed::new(service, decoder, history, revision);
        let (feed, backlog_end) = match found {
            Some(found) => feed.with_backlog(found),
            None => (feed, BacklogEnd::at(after.revision())), // nothing changed since the load
        };
        let watch = handle.start(feed, after.clone()).with_backlog_end(backlog_end);
        Ok(watch.with_lineage(answered.lineage()))
    }

    /// Begins to verify a load, if a stream is open: see [`LoadCheck`].
    pub(crate) fn begin_load(&self) -> Option<LoadCheck> {
        self.current()
            .map(|stream| LoadCheck { highest_revision: stream.highest_revision(), stream })
    }

    /// Creates a watcher on the open stream, if the cursor was verified on it.
    async fn open_verified(
        &self,
        client: &Client,
        service: &ServiceLayout,
        after: &Cursor,
    ) -> Option<Result<(CreatedWatcher, Baseline), EtcdError>> {
        let stream = self.current().filter(|_| !service.has_side_keys())?;
        // The history before the highest revision seen on the stream may have been compacted since.
        let verified = stream
            .take_verified(after)
            .filter(|_| stream.highest_revision() <= after.revision().get())?;
        let start = i64::try_from(after.revision().get()).ok()?.checked_add(1)?;
        let pending = stream.create_watcher(service, start)?;
        let created = |deadline| wait_until_created(client, pending, deadline);
        match client.cluster().with_deadline(created).await {
            Err(error) if error.is_token_rejected() => None,
            outcome => {
                let baseline = Baseline { newest: verified.newest, kvs: Vec::new() };
                Some(outcome.map(|opened| (opened, baseline)))
            }
        }
    }

    /// Creates a watcher that starts after a revision.
    async fn open(
        &self,
        client: &Client,
        service: &ServiceLayout,
        after: i64,
    ) -> Result<CreatedWatcher, EtcdError> {
        let start = after.saturating_add(1);
        let mut is_refreshed = false;
        let opening = async |deadline| {
            loop {
                let (stream, pending) = self.create_watcher(client, service, start).await?;
                let token = stream.token();
                match wait_until_created(client, pending, deadline).await {
                    // A stream keeps its first token. Existing watchers on it continue.
                    Err(error) if error.is_token_rejected() && !is_refreshed => {
                        is_refreshed = true;
                        self.retire(&stream);
                        stream.connection().refresh_token(token).await?;
                    }
                    outcome => return outcome,
                }
            }
        };
        client.cluster().with_deadline(opening).await
    }

    /// Requests a watcher on the open stream, or on a new one.
    async fn create_watcher(
        &self,
        client: &Client,
        service: &ServiceLayout,
        start: i64,
    ) -> Result<(Arc<Stream>, PendingWatcher), EtcdError> {
        let on_current = || {
            let stream = self.current()?;
            let pending = stream.create_watcher(service, start)?;
            Some((stream, pending))
        };
        if let Some(pending) = on_current() {
            return Ok(pending);
        }
        let _guard = self.0.opening.lock().await;
        if let Some(pending) = on_current() {
            return Ok(pending); // another call opened a stream
        }
        let (stream, pending) = Stream::open(client, service, start).await?;
        *self.current_slot() = Some(stream.clone());
        Ok((stream, pending))
    }

    fn current(&self) -> Option<Arc<Stream>> {
        let mut current = self.current_slot();
        current.take_if(|stream| stream.is_closed());
        current.clone()
    }

    /// Creates no more watchers on `stream`.
    fn retire(&self, stream: &Arc<Stream>) {
        self.current_slot().take_if(|current| Arc::ptr_eq(current, stream));
    }

    /// The lock is held for an assignment that cannot panic.
    fn current_slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Stream>>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that was open when a load began.
///
/// While the stream is open, so is its connection, and the same etcd process answers: wiping, restoring or
/// replacing a store starts another process. So a cursor that was loaded on that connection needs no check of
/// its proof while the stream stays open and the store does not change.
pub(crate) struct LoadCheck {
    stream: Arc<Stream>,
    /// The highest revision seen on the stream when the load began.
    highest_revision: u64,
}

impl LoadCheck {
    /// Marks the cursor of `loaded` as verified, if it was loaded on the stream's connection.
    ///
    /// # Errors
    ///
    /// [`EtcdError::StaleRead`] if the load returned a revision from before it began. A member that was
    /// paused may do that (etcd issue 20418, fixed in 3.4.42 and 3.5.28).
    pub(crate) fn finish(&self, client: &Client, loaded: &Loaded) -> Result<(), EtcdError> {
        let cursor = loaded.snapshot.cursor();
        let revision = cursor.revision().get();
        if !client.cluster().is_current(self.stream.connection()) || self.stream.is_closed() {
            return Ok(()); // another connection may have answered
        }
        if revision < self.highest_revision {
            client.cluster().switch_member(self.stream.connection());
            return Err(EtcdError::StaleRead(revision, self.highest_revision));
        }
        if !loaded.has_withdrawn {
            self.stream.add_verified(cursor.clone(), loaded.newest.clone());
        }
        Ok(())
    }
}

/// Waits until etcd has created the watcher.
async fn wait_until_created(
    client: &Client,
    pending: PendingWatcher,
    deadline: Instant,
) -> Result<CreatedWatcher, EtcdError> {
    let PendingWatcher { handle, created } = pending;
    let attempt = client.cluster().attempt(handle.connection(), deadline);
    let created = tokio::select! {
        biased;
        created = created => created.map_err(|_| EtcdError::StreamEnded),
        never = attempt.suspect_when_silent() => match never {},
    };
    attempt.finish();
    let created = created?;
    if created.canceled() {
        return Err(cancellation(&created));
    }
    Ok(CreatedWatcher { handle, answered: Answered::by(created.header())? })
}
