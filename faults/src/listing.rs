//! What the store lists, read past the faults: a record of all changes.

use futures_util::StreamExt;
use registry_core::{Change, InstanceId, LeaseId, Registry, ServiceName};
use registry_engine::{Backoff, FollowEvent, FollowOptions, follow};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A record of what the store lists, kept by a watch of its own.
#[derive(Debug)]
pub(crate) struct Listing {
    record: Arc<Mutex<Record>>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Record {
    /// What it lists now.
    listed: BTreeMap<InstanceId, Option<LeaseId>>,
    /// When each instance was last unlisted, since it was first listed.
    absences: BTreeMap<InstanceId, Absence>,
    /// How often the lease of an instance became another, without its absence in between or with it.
    changes_of_lease: BTreeMap<InstanceId, Vec<(Instant, Option<LeaseId>)>>,
}

/// A time without an instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Absence {
    pub(crate) since: Instant,
    /// `None` if it is not over.
    pub(crate) until: Option<Instant>,
}

impl Listing {
    /// Records what `registry` lists of `service` from now on.
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

    /// Returns the last time without an instance since it was first listed.
    pub(crate) fn absence(&self, id: &InstanceId) -> Option<Absence> {
        self.lock().absences.get(id).copied()
    }

    /// Returns the leases that an instance had one after the other, and since when.
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
                let gone = |id: &&InstanceId| snapshot.records().find(id.as_str()).is_none();
                let gone: Vec<_> = record.listed.keys().filter(gone).cloned().collect();
                for id in &gone {
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
            tracing::debug!(%id, ?lease, "the store lists another lease");
            leases.push((now, lease));
        }
    }

    fn delete(&mut self, id: &InstanceId, now: Instant) {
        if self.listed.remove(id).is_some() {
            tracing::debug!(%id, "the store lists an instance no more");
            self.absences.insert(id.clone(), Absence { since: now, until: None });
        }
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}
