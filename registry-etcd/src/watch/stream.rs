//! One gRPC stream with many watchers, and the task that serves it.

use super::baseline::check_at;
use super::feed::Feed;
use super::fragments::{self, Fragments, MAX_PENDING_LEN};
use super::table::{Created, Outgoing, VerifiedCursor, Watcher, WatcherTable};
use crate::client::{Client, MAX_ANSWER_LEN};
use crate::cluster::{Connection, Token};
use crate::error::EtcdError;
use crate::layout::service::ServiceLayout;
use etcd_client::{
    ResponseHeader, WatchFilterType, WatchOptions, WatchRequestSender, WatchResponse,
    WatchResponseStream,
};
use registry_core::{Cursor, Error, Watch};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

/// The id of a stream's first watcher.
const FIRST_WATCHER_ID: i64 = 1;

/// A watch stream. It stays open while it has watchers and its connection is alive.
pub(super) struct Stream {
    client: Client,
    connection: Arc<Connection>,
    token: Token,
    table: Mutex<WatcherTable>,
    /// Notified when there is a request to send or no watcher is left.
    wake: Notify,
    /// The highest revision that etcd has reported while the stream was open.
    highest_revision: AtomicU64,
}

/// A watcher that was requested.
pub(super) struct PendingWatcher {
    pub(super) handle: WatcherHandle,
    pub(super) created: Created,
}

/// A watcher on a stream. Dropping it cancels the watcher.
pub(super) struct WatcherHandle {
    stream: Arc<Stream>,
    id: i64,
}

impl Stream {
    /// Opens a stream with a first watcher.
    pub(super) async fn open(
        client: &Client,
        service: &ServiceLayout,
        start: i64,
    ) -> Result<(Arc<Self>, PendingWatcher), EtcdError> {
        let opened = client.cluster().call(|connection| async move {
            let token = connection.token();
            let watches = connection.client().watch_client();
            let mut watches = watches.max_decoding_message_size(MAX_ANSWER_LEN);
            let options = options(service, start).with_watch_id(FIRST_WATCHER_ID);
            let stream = watches.watch(service.start(), Some(options)).await?;
            Ok((stream, connection, token))
        });
        let (stream, connection, token) = opened.await?;
        let (requests, responses) = stream.split();
        let (client, table, wake) = (client.clone(), Mutex::default(), Notify::new());
        let new = Arc::new(Self {
            client,
            connection,
            token,
            table,
            wake,
            highest_revision: AtomicU64::new(0),
        });
        let (id, created) = {
            let mut table = new.lock();
            let (id, created) = table.add();
            table.mark_sent(id);
            (id, created)
        };
        debug_assert_eq!(id, FIRST_WATCHER_ID);
        tokio::spawn(new.clone().run(requests, responses));
        let pending = PendingWatcher { handle: WatcherHandle { stream: new.clone(), id }, created };
        Ok((new, pending))
    }

    /// Requests another watcher, unless the stream has ended.
    pub(super) fn create_watcher(
        self: &Arc<Self>,
        service: &ServiceLayout,
        start: i64,
    ) -> Option<PendingWatcher> {
        self.create(service.start(), options(service, start), false)
    }

    fn create(
        self: &Arc<Self>,
        key: &[u8],
        options: WatchOptions,
        is_urgent: bool,
    ) -> Option<PendingWatcher> {
        let mut table = self.lock();
        if table.is_closed {
            return None;
        }
        let (id, created) = table.add();
        let (key, options) = (key.into(), options.with_watch_id(id));
        let create = Outgoing::Create { id, key, options };
        if is_urgent {
            table.outbox.push_front(create);
        } else {
            table.outbox.push_back(create);
        }
        drop(table);
        self.wake.notify_one();
        Some(PendingWatcher { handle: WatcherHandle { stream: self.clone(), id }, created })
    }

    /// Requests a watcher of one key that filters out all events, unless the stream has ended. The request
    /// precedes all queued ones.
    pub(super) fn create_mute_watcher(
        self: &Arc<Self>,
        service: &ServiceLayout,
    ) -> Option<PendingWatcher> {
        let mute = [WatchFilterType::NoPut, WatchFilterType::NoDelete];
        self.create(service.start(), WatchOptions::new().with_filters(mute), true)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Returns a service that is watched on the stream, if there is one.
    pub(super) fn any_service(&self) -> Option<ServiceLayout> {
        self.lock().positions().next().map(|(_, service, ..)| service)
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Returns the token with which the stream was opened.
    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// Returns the highest revision that etcd has reported while the stream was open.
    pub(super) fn highest_revision(&self) -> u64 {
        self.highest_revision.load(Ordering::Relaxed)
    }

    /// Records that `cursor` was loaded while the stream was open.
    pub(super) fn add_verified(&self, cursor: Cursor, newest: Option<Vec<u8>>) {
        self.highest_revision.fetch_max(cursor.revision().get(), Ordering::Relaxed);
        self.lock().add_verified(cursor, newest);
    }

    /// Removes and returns the record of `cursor`, if it was loaded while the stream was open.
    pub(super) fn take_verified(&self, cursor: &Cursor) -> Option<VerifiedCursor> {
        self.lock().take_verified(cursor)
    }

    /// Serves the watchers until the stream breaks or has no watcher left.
    async fn run(self: Arc<Self>, requests: WatchRequestSender, responses: WatchResponseStream) {
        let mut guard = CloseGuard { stream: self.clone(), end: Some(EtcdError::StreamEnded) };
        // Concurrently, since etcd may stop reading requests until its responses are read.
        guard.end = tokio::select! {
            end = self.read(responses) => Some(end),
            sent = self.write(requests) => sent.err(), // without an error, no watcher is left
            end = self.audit() => Some(end),
            end = self.detect_silence(self.client.silence_timeout()) => Some(end),
            () = self.connection.closed() => Some(EtcdError::StreamEnded),
        };
    }

    fn close(&self, end: EtcdError) {
        if end.is_member_failure() {
            self.client.cluster().switch_member(&self.connection);
        }
        let watchers = {
            let mut table = self.lock();
            table.is_closed = true;
            std::mem::take(&mut table.watchers)
        };
        // A rejected token concerns the stream, not its watches, which can resume on another stream.
        let error = Error::from(if end.is_token_rejected() { EtcdError::StreamEnded } else { end });
        for watcher in watchers.into_values() {
            // An opening watcher is notified by being dropped.
            if let Watcher::Live(mut feed) = watcher {
                feed.fail(error.clone());
            }
        }
    }

    async fn read(&self, mut responses: WatchResponseStream) -> EtcdError {
        let mut fragments = Fragments::default();
        loop {
            match responses.message().await {
                Ok(Some(response)) => {
                    // The revision of a refusal is 0.
                    let revision = response.header().map_or(0, ResponseHeader::revision);
                    self.highest_revision.fetch_max(revision.cast_unsigned(), Ordering::Relaxed);
                    let id = response.watch_id();
                    let response = match fragments.add(response) {
                        Ok(Some(response)) => response,
                        Ok(None) => continue,
                        Err(fragments::TooLarge) => {
                            self.fail_oversized(id);
                            continue;
                        }
                    };
                    let is_read = !response.events().is_empty();
                    self.dispatch(response);
                    if is_read {
                        // After a pause of the process, thousands of responses are waiting. Yielding lets
                        // readers on this thread keep up, or they would lag through no fault of their own.
                        yield_now().await;
                    }
                }
                Ok(None) => return EtcdError::StreamEnded,
                Err(error) => return error.into(),
            }
        }
    }

    /// Sends queued requests until no watcher is left.
    async fn write(&self, mut requests: WatchRequestSender) -> Result<(), EtcdError> {
        loop {
            let next = {
                let mut table = self.lock();
                table.is_closed = table.watchers.is_empty();
                if table.is_closed {
                    return Ok(());
                }
                table.next_outgoing()
            };
            match next {
                Some(Outgoing::Create { key, options, .. }) => {
                    requests.watch(key, Some(options)).await?;
                }
                Some(Outgoing::Cancel(id)) => requests.cancel(id).await?,
                None => self.wake.notified().await,
            }
        }
    }

    /// Audits the watches at intervals, since some releases of etcd lose events silently: the proof that
    /// follows from the received events must match the store. Returns only an error.
    async fn audit(&self) -> EtcdError {
        let Some(interval) = self.client.audit_interval() else {
            return std::future::pending().await;
        };
        loop {
            sleep(interval.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            let positions: Vec<_> = self.lock().positions().collect();
            for (id, service, proof, revision) in positions {
                let checked =
                    check_at(&self.client, &service, &proof, revision.cast_signed()).await;
                let Err(EtcdError::Diverged(why)) = checked else { continue }; // or the audit failed
                if let Some(Watcher::Live(mut feed)) = self.lock().remove(id) {
                    feed.fail(EtcdError::MissingEvents(why).into());
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Ends a watch whose response exceeds the limit.
    fn fail_oversized(&self, id: i64) {
        let why = format!("a watch response exceeds the limit of {MAX_PENDING_LEN} bytes");
        if let Some(Watcher::Live(mut feed)) = self.lock().remove(id) {
            feed.fail(EtcdError::MissingEvents(why).into());
        }
        self.wake.notify_one();
    }

    /// Dispatches a response to its watcher.
    fn dispatch(&self, response: WatchResponse) {
        let mut table = self.lock();
        if response.created() {
            return table.confirm(response);
        }
        let id = response.watch_id();
        let is_open = match table.watchers.get_mut(&id) {
            // The watcher was dropped, or this is the reply to a progress request.
            None => true,
            Some(Watcher::Opening(opening)) => {
                opening.buffered_len += fragments::len(&response);
                opening.buffered.push(response);
                opening.buffered_len <= MAX_PENDING_LEN
            }
            Some(Watcher::Live(feed)) => feed.push(&response),
        };
        if !is_open {
            table.remove(id);
            drop(table);
            self.wake.notify_one();
        }
    }

    /// The lock is held while a response is processed, which never waits.
    fn lock(&self) -> MutexGuard<'_, WatcherTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes a stream when its task ends or its runtime shuts down.
struct CloseGuard {
    stream: Arc<Stream>,
    /// `None` if no watcher is left.
    end: Option<EtcdError>,
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            self.stream.close(end);
        }
    }
}

impl WatcherHandle {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.stream.connection
    }

    /// Feeds the responses of the watcher to `feed`, including those buffered since its creation.
    pub(super) fn start(self, feed: Feed, after: Cursor) -> Watch {
        let mut feed = Box::new(feed);
        let mut table = self.stream.lock();
        let (buffered, is_known) = match table.watchers.remove(&self.id) {
            Some(Watcher::Opening(opening)) => (opening.buffered, true),
            _ => (Vec::new(), false), // the stream has ended, and dropping the feed ends the watch
        };
        let (watch, is_open) = feed.open(after, &buffered);
        if is_known && is_open {
            table.watchers.insert(self.id, Watcher::Live(feed));
        }
        drop(table);
        watch.with_guard(self)
    }
}

impl Drop for WatcherHandle {
    fn drop(&mut self) {
        let mut table = self.stream.lock();
        let watcher = table.remove(self.id);
        drop(table);
        drop(watcher);
        self.stream.wake.notify_one();
    }
}

fn options(service: &ServiceLayout, start: i64) -> WatchOptions {
    WatchOptions::new()
        .with_range(service.end())
        .with_start_revision(start)
        .with_progress_notify()
        .with_fragment()
}
