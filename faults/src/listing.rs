//! A record of what the store lists, read over a connection without the links that schedules make faulty.

use futures_util::StreamExt;
use registry_core::{Change, InstanceId, LeaseId, Registry, ServiceName};
use registry_engine::{Backoff, FollowEvent, FollowOptions, follow};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A record of what the store lists, fed by a separate watch.
#[derive(Debug)]
pub(crate) struct Listing {
    record: Arc<Mutex<Record>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Record {
    /// The listed instances and their leases.
    listed: BTreeMap<InstanceId, Option<LeaseId>>,
    /// The last absence of each instance since it was first listed.
    absences: BTreeMap<InstanceId, Absence>,
    /// The changes of the lease of each instance, with or without an absence in between.
    changes_of_lease: BTreeMap<InstanceId, Vec<(Instant, Option<LeaseId>)>>,
}

/// An interval in which an instance is unlisted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absence {
    pub(crate) since: Instant,
    /// `None` if the absence has not ended.
    pub(crate) until: Option<Instant>,
}

impl Listing {
    /// Starts to record what `registry` lists for `service`.
    pub(crate) fn start(registry: Arc<dyn Registry>, service: ServiceName) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let task = tokio::spawn(run(registry, service, record.clone())).abort_handle();
        Self { record, task }
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().listed.len()
    }

    /// Returns whether the store lists an instance.
    pub(crate) fn has(&self, id: &InstanceId) -> bool {
        self.lock().listed.contains_key(id)
    }

    /// Returns the lease of an instance.
    pub(crate) fn lease(&self, id: &InstanceId) -> Option<LeaseId> {
        self.lock().listed.get(id).copied().flatten()
    }

    pub(crate) fn absence(&self, id: &InstanceId) -> Option<Absence> {
        self.lock().absences.get(id).copied()
    }

    /// Returns the successive leases of an instance, and when each was first listed.
    pub(crate) fn leases(&self, id: &InstanceId) -> Vec<(Instant, Option<LeaseId>)> {
        self.lock().changes_of_lease.get(id).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(registry: Arc<dyn Registry>, service: ServiceName, record: Arc<Mutex<Record>>) {
    const SHORTEST: Duration = Duration::from_millis(5);
    const LONGEST: Duration = Duration::from_millis(20);
    let backoff = Backoff::new(SHORTEST, LONGEST);
    let timeout = Duration::from_secs(1);
    let options = FollowOptions::default()
        .with_backoff(backoff)
        .with_outage_backoff(backoff)
        .with_timeout(timeout);
    let mut events = pin!(follow(registry, service, None, options));
    while let Some(event) = events.next().await {
        let (now, mut record) = (Instant::now(), lock(&record));
        match event {
            FollowEvent::Reset(snapshot) => {
                let is_unlisted = |id: &&InstanceId| snapshot.records().find(id.as_str()).is_none();
                let unlisted: Vec<_> = record.listed.keys().filter(is_unlisted).cloned().collect();
                for id in &unlisted {
                    record.delete(id, now);
                }
                for one in snapshot.records() {
                    record.put(one.id(), one.lease(), now);
                }
            }
            FollowEvent::Batch(batch) => {
                for change in &batch.changes {
                    match change {
                        Change::Put(one) => record.put(one.id(), one.lease(), now),
                        Change::Delete(deleted) => record.delete(deleted.id(), now),
                    }
                }
            }
            FollowEvent::Opened(_) | FollowEvent::Live | FollowEvent::Trouble(_) => {}
        }
    }
}

impl Record {
    fn put(&mut self, id: &InstanceId, lease: Option<LeaseId>, now: Instant) {
        self.listed.insert(id.clone(), lease);
        if let Some(absence) = self.absences.get_mut(id) {
            absence.until.get_or_insert(now);
        }
        let leases = self.changes_of_lease.entry(id.clone()).or_default();
        if leases.last().is_none_or(|(_, last)| *last != lease) {
            tracing::debug!(%id, ?lease, "the store lists a new lease");
            leases.push((now, lease));
        }
    }

    fn delete(&mut self, id: &InstanceId, now: Instant) {
        if self.listed.remove(id).is_some() {
            tracing::debug!(%id, "the store no longer lists an instance");
            self.absences.insert(id.clone(), Absence { since: now, until: None });
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
