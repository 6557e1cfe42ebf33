//! The registry as a pure state machine: no clock, no lock, no task. **This is the specification.**
//!
//! The caller passes the time, counted from when the model was created. Every operation first expires the
//! leases of its service, and changes no other service.

use crate::branches::{Branch, Branches};
use registry_core::{
    Batch, Change, Claim, Cursor, DeleteReason, Deleted, Error, ErrorKind, Holder, Instance,
    InstanceId, Lease, LeaseId, Lineage, Origin, Record, Result, Revision, ServiceName, Snapshot,
    Takeover,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How many batches of history a model keeps for resuming watches, summed over all services.
pub const DEFAULT_HISTORY_LIMIT: usize = 100_000;

/// A registry: its records and their history.
#[derive(Clone, Debug)]
pub struct Model {
    /// Distinguishes this registry from all others. It survives rollbacks.
    id: u64,
    revision: u64,
    branches: Branches,
    services: HashMap<ServiceName, Service>,
    leases: HashMap<LeaseId, (ServiceName, InstanceId)>,
    /// The batches of all logs, with their service, oldest first.
    history: VecDeque<(ServiceName, Arc<Batch>)>,
    history_limit: usize,
    /// The newest dropped revision of any service that was removed.
    compacted: u64,
}

/// One service: its instances and their changes.
#[derive(Clone, Debug)]
struct Service {
    origin: Origin,
    entries: BTreeMap<InstanceId, Entry>,
    /// Each instance has one entry, at its deadline or earlier. A renewal changes only the deadline in
    /// `entries`, and the queue is corrected when the entry is due.
    expiry_queue: BTreeSet<(Duration, InstanceId)>,
    log: VecDeque<Arc<Batch>>,
    /// The newest revision dropped from the log.
    compacted: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    lease: Lease,
    /// The record of the lease, as a load lists it.
    record: Record,
    /// The revision since which the lease holds the id.
    claimed: Revision,
    deadline: Duration,
    /// The entry's time in the expiry queue.
    queued: Duration,
}

impl Model {
    /// Returns an empty registry. `id` distinguishes it and its history from all others.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            revision: 0,
            branches: Branches::new(id),
            services: HashMap::new(),
            leases: HashMap::new(),
            history: VecDeque::new(),
            history_limit: DEFAULT_HISTORY_LIMIT,
            compacted: 0,
        }
    }

    /// Sets how many batches of history to keep.
    #[must_use]
    pub fn with_history_limit(mut self, batches: usize) -> Self {
        self.history_limit = batches;
        self
    }

    /// Registers `instance` under the [contract](registry_core::Registry::register).
    pub fn register(&mut self, now: Duration, instance: &Instance, claim: &Claim) -> Result<Lease> {
        instance.check()?;
        let (service, id) = (instance.service(), instance.id());
        self.expire(now, service);
        let held =
            self.leases.get(&claim.lease()).filter(|held| (&held.0, &held.1) != (service, id));
        if let Some((service, _)) = held.cloned() {
            self.expire(now, &service); // the lease may have expired there
            if self.holds(claim.lease()) {
                return Err(invalid(
                    "the lease id is in use for another instance: use a new lease id",
                ));
            }
        }
        let claimed = match self.entry(service, id) {
            Some(held) if held.lease.id() == claim.lease() => {
                if held.lease.ttl() != claim.ttl() {
                    return Err(invalid(
                        "the lease id is in use with another ttl: use a new lease id",
                    ));
                }
                if held.lease.instance() == instance {
                    held.deadline = now + claim.ttl(); // a repeated claim is a renewal
                    return Ok(held.lease.clone());
                }
                Some(held.claimed)
            }
            Some(held) if claim.takeover() != Takeover::From(held.holder()) => {
                return Err(superseded(instance, held.holder()));
            }
            Some(held) => {
                let displaced = held.lease.id();
                self.leases.remove(&displaced);
                None
            }
            None => None,
        };
        Ok(self.put(now, instance, claim, claimed))
    }

    /// Returns the holder of the id of `instance`.
    pub fn holder(&mut self, now: Duration, instance: &Instance) -> Option<Holder> {
        self.expire(now, instance.service());
        self.entry(instance.service(), instance.id()).map(|held| held.holder())
    }

    /// Renews `lease` if its record is the last acknowledged one. Returns the granted ttl.
    pub fn keep_alive(&mut self, now: Duration, lease: &Lease) -> Result<Duration> {
        let (service, id) = (lease.instance().service(), lease.instance().id());
        self.expire(now, service);
        match self.entry(service, id) {
            Some(entry) if entry.lease == *lease => {
                entry.deadline = now + lease.ttl();
                Ok(lease.ttl())
            }
            _ => Err(lease_lost(lease)),
        }
    }

    /// Deletes the instance of `lease`, if there is one.
    pub fn deregister(&mut self, now: Duration, lease: &Lease) {
        self.end(now, lease.id(), Some(DeleteReason::Withdrawn));
    }

    /// Returns the cursor from which to watch the record of `lease`, after checking that it is the last
    /// acknowledged one.
    pub fn record_cursor(&mut self, now: Duration, lease: &Lease) -> Result<Cursor> {
        let (service, id) = (lease.instance().service(), lease.instance().id());
        self.expire(now, service);
        let held = self.entry(service, id).is_some_and(|entry| entry.lease == *lease);
        if held {
            Ok(self.cursor(&self.origin(service), self.revision))
        } else {
            Err(lease_lost(lease))
        }
    }

    /// Returns the lineage of the current state.
    pub fn lineage(&self) -> Lineage {
        Lineage::new(self.branch())
    }

    /// Returns the current state of `service`.
    pub fn load(&mut self, now: Duration, service: &ServiceName) -> Snapshot {
        self.expire(now, service);
        let cursor = self.cursor(&self.origin(service), self.revision);
        let records = self.services.get(service).map(Service::records).unwrap_or_default();
        Snapshot::new(cursor, records).with_lineage(self.lineage())
    }

    /// Returns the batches of `service` after `after`.
    pub fn batches(
        &mut self,
        now: Duration,
        service: &ServiceName,
        after: &Cursor,
    ) -> Result<Vec<Arc<Batch>>> {
        self.expire(now, service);
        let revision = after.revision().get();
        let Branch(branch) = self.origin(service).proof(after)?;
        if revision > self.revision || self.branches.branch_of(revision) != branch {
            return Err(Error::new(
                ErrorKind::Diverged,
                "the history of this cursor was rolled back: load again",
            ));
        }
        let state = self.services.get(service);
        if revision < state.map_or(self.compacted, |state| state.compacted) {
            return Err(Error::new(
                ErrorKind::Compacted,
                "the history after this cursor was dropped: load again",
            ));
        }
        let Some(state) = state else { return Ok(Vec::new()) };
        let first = state.log.partition_point(|batch| batch.revision() <= after.revision());
        Ok(state.log.range(first..).cloned().collect())
    }

    /// Returns the services that have an instance. O(services).
    pub fn services(&mut self, now: Duration) -> BTreeSet<ServiceName> {
        let listed: Vec<ServiceName> = self.services.keys().cloned().collect();
        for service in &listed {
            self.expire(now, service);
        }
        let used = self.services.iter().filter(|(_, service)| !service.entries.is_empty());
        used.map(|(name, _)| name.clone()).collect()
    }

    /// Deletes the instances of `service` whose deadline has passed, in the order of deadlines.
    pub fn expire(&mut self, now: Duration, service: &ServiceName) {
        while let Some(id) =
            self.services.get_mut(service).and_then(|service| service.pop_expired(now))
        {
            self.remove(service, vec![id], Some(DeleteReason::Expired));
        }
    }

    /// Returns whether `lease` holds an instance, as of the last [expiry](Self::expire) in its service.
    pub fn holds(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// Returns when to next call [`expire`](Self::expire) for `service`. It may be early, but not late.
    pub fn next_deadline(&self, service: &ServiceName) -> Option<Duration> {
        self.services.get(service)?.expiry_queue.first().map(|(at, _)| *at)
    }

    /// Returns the last revision.
    pub fn revision(&self) -> Revision {
        Revision::new(self.revision)
    }

    /// Returns the batches after `revision`, oldest first.
    pub fn committed_after(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (&ServiceName, &Arc<Batch>)> {
        let first = self.history.partition_point(|(_, batch)| batch.revision() <= revision);
        self.history.range(first..).map(|(service, batch)| (service, batch))
    }
}

/// Operations of an operator.
impl Model {
    /// Revokes a lease and deletes its instance.
    pub fn revoke(&mut self, now: Duration, lease: LeaseId) {
        self.end(now, lease, None);
    }

    /// Deletes all instances of `service` at one revision, independent of their owners.
    pub fn evict(&mut self, now: Duration, service: &ServiceName) {
        self.expire(now, service);
        let ids =
            self.services.get(service).map(|service| service.entries.keys().cloned().collect());
        self.remove(service, ids.unwrap_or_default(), None);
    }

    /// Drops the history beyond its limit. Call it only after the batches of an operation were published to
    /// all watches.
    pub fn trim_history(&mut self) {
        self.drop_history(self.history.len().saturating_sub(self.history_limit));
    }

    /// Drops the history up to `revision`.
    pub fn compact(&mut self, revision: Revision) {
        self.drop_history(self.history.partition_point(|(_, batch)| batch.revision() <= revision));
    }

    /// Returns all instances in order, with their leases. O(instances).
    pub(crate) fn leases(&mut self, now: Duration) -> BTreeMap<(ServiceName, InstanceId), LeaseId> {
        self.services(now);
        self.leases.iter().map(|(lease, held)| (held.clone(), *lease)).collect()
    }

    /// Returns an empty model with the same history limit.
    pub(crate) fn emptied(&self, branch: u64) -> Self {
        let empty = Self::new(branch).with_history_limit(self.history_limit);
        Self { id: self.id, ..empty }
    }

    /// Restores an earlier state of this or another model, as a failover to a lagging replica or a restored
    /// backup does. `branch` distinguishes the history from here on.
    ///
    /// The ttl of every lease restarts, since its owner could not renew it in the meantime.
    pub fn restore(&mut self, now: Duration, backup: Self, branch: u64) {
        let is_ours = backup.id == self.id;
        *self = Self { id: self.id, ..backup };
        if !is_ours {
            self.adopt_services();
        }
        self.branches.fork(self.revision, branch);
        for service in self.services.values_mut() {
            service.expiry_queue.clear();
            for (id, entry) in &mut service.entries {
                entry.deadline = now + entry.lease.ttl();
                entry.queued = entry.deadline;
                service.expiry_queue.insert((entry.queued, id.clone()));
            }
        }
    }
}

impl Model {
    /// Adopts the services of another registry's backup. Their history is dropped, since its cursors belong
    /// to the other registry.
    fn adopt_services(&mut self) {
        self.compact(self.revision());
        for (name, service) in &mut self.services {
            service.origin = origin(self.id, name);
        }
    }

    #[inline]
    fn entry(&mut self, service: &ServiceName, id: &InstanceId) -> Option<&mut Entry> {
        self.services.get_mut(service)?.entries.get_mut(id)
    }

    /// Ends `lease` and deletes its instance.
    fn end(&mut self, now: Duration, lease: LeaseId, reason: Option<DeleteReason>) {
        let Some((service, id)) = self.leases.get(&lease).cloned() else { return };
        self.expire(now, &service);
        self.remove(&service, vec![id], reason);
    }

    /// Commits a put of `instance` and makes the claim's lease its holder, since `claimed` or since this
    /// revision. The ttl starts at `now`.
    fn put(
        &mut self,
        now: Duration,
        instance: &Instance,
        claim: &Claim,
        claimed: Option<Revision>,
    ) -> Lease {
        let (name, id) = (instance.service(), instance.id());
        let revision = Revision::new(self.revision + 1);
        let lease = Lease::new(claim.lease(), claim.ttl(), instance.clone(), revision)
            .with_proof(Branch(self.branch()));
        let record = Record::new(instance.clone())
            .with_lease(lease.id())
            .with_ttl(lease.ttl())
            .with_revision(revision);
        self.leases.insert(lease.id(), (name.clone(), id.clone()));
        let service = self.commit(name, vec![Change::Put(record.clone())]);
        let (claimed, deadline) = (claimed.unwrap_or(revision), now + lease.ttl());
        let entry = Entry { lease: lease.clone(), record, claimed, deadline, queued: deadline };
        if let Some(old) = service.entries.insert(id.clone(), entry) {
            service.expiry_queue.remove(&(old.queued, id.clone()));
        }
        service.expiry_queue.insert((deadline, id.clone()));
        lease
    }

    /// Commits the deletion of those `ids` that exist, if any.
    fn remove(&mut self, name: &ServiceName, ids: Vec<InstanceId>, reason: Option<DeleteReason>) {
        let Some(service) = self.services.get_mut(name) else { return };
        let deleted = ids.into_iter().filter_map(|id| {
            let entry = service.entries.remove(&id)?;
            self.leases.remove(&entry.lease.id());
            service.expiry_queue.remove(&(entry.queued, id.clone()));
            let deleted = Deleted::new(id);
            Some(Change::Delete(match reason {
                Some(reason) => deleted.with_reason(reason),
                None => deleted,
            }))
        });
        let deleted: Vec<Change> = deleted.collect();
        if !deleted.is_empty() {
            self.commit(name, deleted);
        }
    }

    /// Creates a revision; no other function does.
    fn commit(&mut self, name: &ServiceName, changes: Vec<Change>) -> &mut Service {
        let branch = Branch(self.branch());
        self.revision += 1;
        let service = self
            .services
            .entry(name.clone())
            .or_insert_with(|| Service::new(origin(self.id, name), self.compacted));
        let cursor = service.origin.cursor(Revision::new(self.revision), branch);
        let batch = Arc::new(Batch::new(cursor, changes));
        service.log.push_back(batch.clone());
        self.history.push_back((name.clone(), batch));
        service
    }

    fn origin(&self, service: &ServiceName) -> Origin {
        let known = self.services.get(service).map(|service| service.origin.clone());
        known.unwrap_or_else(|| origin(self.id, service))
    }

    /// Returns the branch of the next revision.
    fn branch(&self) -> u64 {
        self.branches.branch_of(self.revision + 1)
    }

    /// Drops the oldest `count` batches of history.
    fn drop_history(&mut self, count: usize) {
        for _ in 0..count {
            let Some((name, batch)) = self.history.pop_front() else { return };
            let Some(service) = self.services.get_mut(&name) else { continue };
            service.log.pop_front();
            let revision = batch.revision().get();
            service.compacted = revision;
            if service.log.is_empty() && service.entries.is_empty() {
                self.services.remove(&name);
                self.compacted = revision;
            }
        }
    }

    fn cursor(&self, origin: &Origin, revision: u64) -> Cursor {
        origin.cursor(Revision::new(revision), Branch(self.branches.branch_of(revision)))
    }
}

impl Service {
    fn new(origin: Origin, compacted: u64) -> Self {
        let (entries, expiry_queue, log) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Self { origin, entries, expiry_queue, log, compacted }
    }

    fn records(&self) -> Vec<Record> {
        self.entries.values().map(|entry| entry.record.clone()).collect()
    }

    /// Removes and returns the instance with the earliest deadline, if that has passed.
    fn pop_expired(&mut self, now: Duration) -> Option<InstanceId> {
        loop {
            let (at, _) = self.expiry_queue.first().filter(|(at, _)| *at <= now)?;
            let at = *at;
            let (_, id) = self.expiry_queue.pop_first()?;
            let entry = self.entries.get_mut(&id)?;
            if entry.deadline == at {
                return Some(id);
            }
            entry.queued = entry.deadline;
            self.expiry_queue.insert((entry.queued, id));
        }
    }
}

impl Entry {
    fn holder(&self) -> Holder {
        Holder::new(Some(self.lease.id()), Some(self.claimed))
    }
}

fn origin(id: u64, service: &ServiceName) -> Origin {
    Origin::new("mem", &format!("{id:016x}"), service)
}

fn superseded(instance: &Instance, holder: Holder) -> Error {
    let (service, id) = (instance.service(), instance.id());
    let message =
        format!("another lease holds the id, service=`{service}`, id=`{id}`, holder=`{holder}`");
    Error::new(ErrorKind::Superseded, message).with_holder(holder)
}

fn lease_lost(lease: &Lease) -> Error {
    let (service, id) = (lease.instance().service(), lease.instance().id());
    let message = format!(
        "the lease or its last acknowledged record is gone: register again, service=`{service}`, id=`{id}`, lease=`{}`",
        lease.id()
    );
    Error::new(ErrorKind::LeaseLost, message)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
