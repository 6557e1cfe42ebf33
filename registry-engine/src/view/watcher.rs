//! The watcher: the task of a view, which follows the service, retains instances, and publishes the state.

mod releases;

use super::broadcast::Broadcaster;
use super::options::DiscoveryOptions;
use super::report::{Refusal, Release};
use super::retention::{Retention, is_draining, missing};
use super::snapshot_file::SnapshotFile;
use super::state::{ServiceState, ViewStatus};
use crate::Backoff;
use crate::bounds::retry_backoff;
use crate::failures::LoggedFailures;
use crate::follow::{FollowEvent, FollowOptions, follow};
use crate::metrics::ViewMetrics;
use futures_util::future::OptionFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use registry_core::{
    Batch, Change, DeleteReason, Error, ErrorKind, Lineage, Record, Records, Registry, ServiceName,
    Snapshot,
};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The maximum number of events to apply before the state is published. A burst thus costs one copy of the state.
const MAX_BURST: usize = 256;

/// The task that keeps a view up to date.
pub(crate) struct Watcher {
    registry: Arc<dyn Registry>,
    service: ServiceName,
    options: DiscoveryOptions,
    outage_backoff: Backoff,
    broadcaster: Arc<Broadcaster>,
    metrics: ViewMetrics,
    refusals: mpsc::Receiver<Refusal>,
    /// The last state from the store. If not [confirmed](Self::confirmed), an earlier process wrote it to the snapshot
    /// file.
    snapshot: Option<Snapshot>,
    confirmed: bool,
    /// The kind of the last error, until the service is loaded again or the view is live.
    trouble: Option<ErrorKind>,
    status: ViewStatus,
    logged_failures: LoggedFailures,
    ttl: Duration,
    retention: Retention,
    /// The current disruption, if there is one.
    disruption: Option<Disruption>,
    /// The lineage of the last load or live watch.
    lineage: Option<Lineage>,
    /// The lineage of the last opened watch.
    opened_lineage: Lineage,
    file: Option<SnapshotFile>,
    /// The batches to publish. `None` if a reset must be published instead.
    pending_batches: Option<Vec<Arc<Batch>>>,
    dirty: bool,
    /// Whether the status is not published yet.
    is_status_new: bool,
    version: u64,
    wakers: Vec<Waker>,
}

/// A time without a watch.
struct Disruption {
    since: Instant,
    /// Whether live instances may have lost their lease during the disruption.
    is_trouble: bool,
    /// The time of the recovery from earlier trouble, if there was any.
    recovered_before: Option<Instant>,
}

impl Watcher {
    pub(crate) fn new(
        registry: Arc<dyn Registry>,
        service: ServiceName,
        options: DiscoveryOptions,
        ttl: Duration,
        refusals: mpsc::Receiver<Refusal>,
        file: Option<SnapshotFile>,
    ) -> Self {
        let status = ViewStatus::Loading { since: Instant::now(), why: None };
        let initial = ServiceState {
            records: Records::default(),
            retained: Box::default(),
            avoids_retained: true,
            store_snapshot: None,
            is_confirmed: false,
            status: status.clone(),
            version: 0,
            is_closed: false,
        };
        let mut metrics = ViewMetrics::new(&service);
        metrics.stale(true);
        Self {
            retention: Retention::new(options.retain.then_some(ttl)),
            broadcaster: Arc::new(Broadcaster::new(initial, metrics.coalesced())),
            metrics,
            refusals,
            registry,
            service,
            outage_backoff: retry_backoff(options.backoff, ttl, 0),
            options,
            snapshot: None,
            confirmed: false,
            trouble: None,
            status,
            logged_failures: LoggedFailures::default(),
            ttl,
            disruption: None,
            lineage: None,
            opened_lineage: Lineage::default(),
            file,
            pending_batches: Some(Vec::new()),
            dirty: false,
            is_status_new: false,
            version: 0,
            wakers: Vec::new(),
        }
    }

    pub(crate) fn broadcaster(&self) -> &Arc<Broadcaster> {
        &self.broadcaster
    }

    /// Runs until the task is aborted.
    pub(crate) async fn run(mut self) {
        // The file is read while the store is queried, since the disk may be slow or hang.
        let mut reading = self.file.as_ref().map(|file| Box::pin(file.read()));
        let options = FollowOptions::default()
            .with_backoff(self.options.backoff)
            .with_outage_backoff(self.outage_backoff)
            .with_timeout(self.options.timeout);
        let mut events = pin!(follow(self.registry.clone(), self.service.clone(), None, options));
        loop {
            let expiry = self.retention.next_expiry().map(sleep_until);
            let save = self.file.as_ref().and_then(SnapshotFile::due).map(sleep_until);
            let read = OptionFuture::from(reading.as_mut().filter(|_| !self.confirmed));
            tokio::select! {
                Some(event) = events.next() => self.handle_burst(event, events.as_mut()),
                Some(refusal) = self.refusals.recv() => self.refused(&refusal),
                Some(read) = read => {
                    reading = None;
                    self.show_file(read);
                }
                Some(()) = OptionFuture::from(expiry) => self.expire(),
                Some(()) = OptionFuture::from(save) => self.save(),
                else => return, // the events never end
            }
            self.publish();
        }
    }

    /// Shows the snapshot that an earlier process left in the file, unless the store has answered.
    fn show_file(&mut self, read: Option<Snapshot>) {
        if read.is_none() || self.confirmed {
            return;
        }
        self.snapshot = read;
        self.dirty = true;
        if let ViewStatus::Loading { since, why: Some(why) } = self.status.clone() {
            self.set_status(ViewStatus::Stale { since, why });
        }
    }

    /// Handles `event`, and the events that are ready behind it.
    fn handle_burst(
        &mut self,
        event: FollowEvent,
        mut events: Pin<&mut impl Stream<Item = FollowEvent>>,
    ) {
        let mut handled = 1;
        self.handle(event);
        while handled < MAX_BURST
            && let Some(Some(event)) = events.next().now_or_never()
        {
            self.handle(event);
            handled += 1;
        }
        self.metrics.lag(handled);
    }

    fn handle(&mut self, event: FollowEvent) {
        match event {
            FollowEvent::Reset(snapshot) => self.reset(snapshot),
            FollowEvent::Opened(lineage) => self.opened_lineage = lineage,
            FollowEvent::Live => {
                self.end_disruption(&self.opened_lineage.clone());
                self.set_status(ViewStatus::Live);
            }
            FollowEvent::Batch(batch) => self.apply(batch),
            FollowEvent::Trouble(error) => self.trouble(error),
        }
    }

    fn reset(&mut self, snapshot: Snapshot) {
        // If the store answers the first load at once, instances that are only in the file are not retained: it may be
        // old.
        let retains = self.confirmed || self.trouble.is_some();
        self.end_disruption(snapshot.lineage());
        if let Some(before) = self.snapshot.as_ref().filter(|_| retains) {
            let deleted = missing(before.records(), snapshot.records());
            if !deleted.is_empty() {
                tracing::info!(service = %self.service, deleted = deleted.len(), "a reload does not list instances that were listed before");
            }
            let unannounced = deleted.into_iter().filter(|record| !is_draining(record)).collect();
            let (before, after) = (before.records().len(), snapshot.records().len());
            let returned = snapshot.records().ids().filter(|id| self.retention.listed(id)).count();
            self.released(returned, Release::Returned);
            self.retain(unannounced, before, after);
        }
        if let Some(reason) = self.trouble.take().filter(|_| self.confirmed) {
            self.metrics.resynced(reason);
        }
        self.metrics.undecodable(snapshot.undecodable());
        self.snapshot = Some(snapshot);
        self.confirmed = true;
        self.pending_batches = None;
        self.mark_changed();
    }

    fn apply(&mut self, batch: Arc<Batch>) {
        let Some(snapshot) = &mut self.snapshot else { return };
        let (listed, before) = (snapshot.records(), snapshot.records().len());
        let is_news = batch.changes.iter().any(|change| is_news(listed, change));
        let (mut unannounced, mut returned) = (Vec::new(), 0);
        for change in &batch.changes {
            match change {
                Change::Put(record) => {
                    unannounced.retain(|deleted: &Record| deleted.id() != record.id());
                    returned += usize::from(self.retention.listed(record.id()));
                }
                Change::Delete(deleted) => {
                    let is_announced = deleted.reason() == Some(DeleteReason::Withdrawn);
                    let record = listed.find(deleted.id().as_str()).filter(|_| !is_announced);
                    unannounced.extend(record.filter(|record| !is_draining(record)).cloned());
                }
            }
        }
        if let Err(error) = snapshot.apply(&batch) {
            // `Watch` refuses a batch of another service, so this does not happen.
            tracing::error!(service = %self.service, error = %error.chain(), "a batch was refused");
            return;
        }
        if !is_news {
            return; // only the cursor and the revisions of records changed
        }
        let after = snapshot.records().len();
        self.released(returned, Release::Returned);
        self.retain(unannounced, before, after);
        if let Some(pending) = &mut self.pending_batches {
            pending.push(batch);
        }
        self.mark_changed();
    }

    /// Schedules a publish and a save.
    fn mark_changed(&mut self) {
        self.dirty = true;
        if let Some(file) = &mut self.file {
            file.mark_dirty();
        }
    }

    fn trouble(&mut self, error: Error) {
        self.begin_disruption(error.kind() == ErrorKind::Diverged || error.is_silence());
        self.metrics.disrupted(error.kind());
        if self.status.is_live() {
            self.logged_failures.insert(error.kind());
            tracing::warn!(service = %self.service, error = %error.chain(), "a view lost its watch");
        } else if self.logged_failures.insert(error.kind()) {
            tracing::warn!(service = %self.service, error = %error.chain(), "a view is not live: retrying");
        } else {
            tracing::debug!(service = %self.service, error = %error.chain(), "a view is not live yet");
        }
        self.trouble = Some(error.kind());
        let since = self.stale_since();
        self.set_status(match self.snapshot {
            Some(_) => ViewStatus::Stale { since, why: error },
            None => ViewStatus::Loading { since, why: Some(error) },
        });
    }

    /// Begins a disruption, or continues the current one.
    fn begin_disruption(&mut self, is_trouble: bool) {
        let recovered_before = self.retention.recovered_at();
        let new = || Disruption { since: Instant::now(), is_trouble: false, recovered_before };
        self.disruption.get_or_insert_with(new).is_trouble |= is_trouble;
        self.retention.broken();
    }

    /// Ends the disruption, since the store answers again with this lineage. A lease may have been renewed up to a
    /// third of the ttl before the disruption, and the link may have been bad before, so a disruption of a third of the
    /// ttl may have cost an instance its lease.
    fn end_disruption(&mut self, lineage: &Lineage) {
        let is_same = self.lineage.as_ref() == Some(lineage);
        self.lineage = Some(lineage.clone());
        let Some(disruption) = self.disruption.take() else { return };
        if disruption.is_trouble || !is_same || disruption.since.elapsed() >= self.ttl / 3 {
            self.retention.recovered(Instant::now());
        } else {
            self.retention.resumed(disruption.recovered_before);
        }
    }

    fn stale_since(&self) -> Instant {
        match self.status {
            ViewStatus::Live => Instant::now(),
            ViewStatus::Loading { since, .. } | ViewStatus::Stale { since, .. } => since,
        }
    }

    fn set_status(&mut self, status: ViewStatus) {
        if status.is_live() {
            tracing::info!(service = %self.service, "a view is live");
            self.logged_failures.clear();
            self.trouble = None;
        }
        self.metrics.stale(!status.is_live());
        self.status = status;
        self.is_status_new = true;
        self.dirty = true;
    }

    fn save(&mut self) {
        let Some((file, snapshot)) = self.file.as_mut().zip(self.snapshot.as_ref()) else { return };
        file.save(snapshot, self.status.is_live());
    }

    /// Publishes the state if it changed, and wakes the waiting tasks.
    fn publish(&mut self) {
        self.publish_state(false);
    }

    fn publish_state(&mut self, is_closed: bool) {
        if !self.dirty {
            return;
        }
        self.dirty = false;
        self.version += 1;
        let retained: Box<[_]> = self.retention.retained().cloned().collect();
        let listed = self.snapshot.as_ref().map(|snapshot| snapshot.records().clone());
        let mut records = listed.unwrap_or_default();
        let puts = retained.iter().map(|retained| Change::Put(retained.record.clone()));
        records.apply(&puts.collect::<Vec<_>>());
        self.metrics.shown(records.len(), retained.len());
        let store_snapshot = self.snapshot.clone();
        let (status, version) = (self.status.clone(), self.version);
        let listed = records.len() - retained.len();
        let avoids_retained = 2 * listed >= records.len();
        let state = ServiceState {
            records,
            retained,
            avoids_retained,
            store_snapshot,
            is_confirmed: self.confirmed,
            status,
            version,
            is_closed,
        };
        self.broadcaster.publish(state);
        if let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.confirmed) {
            if let Some(batches) = &mut self.pending_batches {
                self.broadcaster.append(snapshot.clone(), batches);
            } else {
                self.broadcaster.reset(snapshot.clone());
                self.pending_batches = Some(Vec::new());
            }
        }
        if mem::take(&mut self.is_status_new) {
            self.broadcaster.set_status(self.status.clone(), is_closed);
        }
        self.broadcaster.wake_all(&mut self.wakers);
    }
}

/// Returns whether a change is more than a new revision of an unchanged record, as from a program that rewrites its key
/// repeatedly.
fn is_news(listed: &Records, change: &Change) -> bool {
    let Change::Put(record) = change else { return true };
    listed.find(record.id().as_str()).is_none_or(|listed| {
        (listed.instance(), listed.lease(), listed.ttl())
            != (record.instance(), record.lease(), record.ttl())
    })
}

impl Drop for Watcher {
    /// Publishes a last, stale state: if the runtime was shut down, the remaining handles must not look live.
    fn drop(&mut self) {
        let message = "the task of the view has ended: its runtime was shut down, or it panicked";
        let why = Error::new(ErrorKind::Closed, message);
        self.set_status(ViewStatus::Stale { since: self.stale_since(), why });
        self.publish_state(true);
    }
}
