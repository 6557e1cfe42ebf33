//! The registry as a pure state machine: no clock, no lock, no task. **This is the specification.**
//!
//! Time is what the caller says it is, counted from when the model was made. Every operation first
//! ends what is due in the service it touches, and touches no other.

use crate::lineage::{Branch, Lineage};
use registry_core::{
    Batch, Change, Claim, Cursor, Error, ErrorKind, Instance, InstanceId, Lease, LeaseId, Origin,
    Result, Revision, ServiceName, Snapshot,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// How many batches of history a model holds for resuming watches, over all services.
pub const DEFAULT_RETENTION: usize = 100_000;

/// A registry: what it holds, and how it came to that.
#[derive(Clone, Debug)]
pub struct Model {
    revision: u64,
    lineage: Lineage,
    services: HashMap<ServiceName, Service>,
    leases: HashMap<LeaseId, (ServiceName, InstanceId)>,
    /// The revisions still held, with the service whose log holds them, oldest first.
    history: VecDeque<(u64, ServiceName)>,
    retention: usize,
    /// The newest batch dropped of any service that is no longer listed.
    forgotten: u64,
}

/// One service: who is registered, and what changed.
#[derive(Clone, Debug)]
struct Service {
    origin: Origin,
    live: BTreeMap<InstanceId, Entry>,
    /// At or before its deadline, each live instance stands here once: a renewal moves only the
    /// deadline, and the place is corrected when it comes up.
    due: BTreeSet<(Duration, InstanceId)>,
    log: VecDeque<Batch>,
    /// The newest batch dropped from the log.
    floor: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    lease: Lease,
    deadline: Duration,
    due: Duration,
}

impl Model {
    /// An empty registry, whose history is told from all others by `branch`.
    pub fn new(branch: u64) -> Self {
        Self {
            revision: 0,
            lineage: Lineage::new(branch),
            services: HashMap::new(),
            leases: HashMap::new(),
            history: VecDeque::new(),
            retention: DEFAULT_RETENTION,
            forgotten: 0,
        }
    }

    /// Sets how many batches of history to hold.
    #[must_use]
    pub fn with_retention(mut self, batches: usize) -> Self {
        self.retention = batches;
        self
    }

    /// Registers `instance` as the [contract](registry_core::Registry::register) says.
    pub fn register(&mut self, now: Duration, instance: &Instance, claim: &Claim) -> Result<Lease> {
        let (service, id) = (instance.service(), instance.id());
        self.touch(now, service);
        if let Some((service, _)) = self.leases.get(&claim.lease()).cloned() {
            self.touch(now, &service); // what the lease held there may be over
        }
        let held = self.leases.get(&claim.lease());
        if held.is_some_and(|held| (&held.0, &held.1) != (service, id)) {
            return Err(invalid("a lease holds one instance: draw another lease id"));
        }
        let lease = match self.entry(service, id).map(|entry| &entry.lease) {
            Some(held) if held.id() == claim.lease() => {
                if held.ttl() != claim.ttl() {
                    return Err(invalid("a lease keeps its ttl: draw another lease id"));
                }
                if held.instance() == instance { held.clone() } else { self.put(instance, claim) }
            }
            Some(_) if !claim.takeover() => {
                let message = format!("another lease holds the id, service=`{service}`, id=`{id}`");
                return Err(Error::new(ErrorKind::Superseded, message));
            }
            Some(superseded) => {
                let superseded = superseded.id();
                self.leases.remove(&superseded);
                self.put(instance, claim)
            }
            None => self.put(instance, claim),
        };
        self.hold(now, lease.clone());
        Ok(lease)
    }

    /// Renews `lease` if it stands, and the record with it.
    pub fn keep_alive(&mut self, now: Duration, lease: &Lease) -> Result<()> {
        let (service, id) = (lease.instance().service(), lease.instance().id());
        self.touch(now, service);
        let live = self.services.get_mut(service).and_then(|service| service.live.get_mut(id));
        match live {
            Some(entry)
                if entry.lease.id() == lease.id() && entry.lease.revision() == lease.revision() =>
            {
                entry.deadline = now + entry.lease.ttl();
                Ok(())
            }
            _ => {
                let message =
                    format!("lease lost, service=`{service}`, id=`{id}`, lease=`{}`", lease.id());
                Err(Error::new(ErrorKind::LeaseLost, message))
            }
        }
    }

    /// Withdraws what is registered under `lease`, if anything is.
    pub fn deregister(&mut self, now: Duration, lease: &Lease) {
        self.revoke(now, lease.id());
    }

    /// Reads `service` as it is now.
    pub fn load(&mut self, now: Duration, service: &ServiceName) -> Snapshot {
        self.touch(now, service);
        let Some(held) = self.services.get(service) else {
            return Snapshot::new(self.cursor(&origin(service), self.revision), []);
        };
        let instances = held.live.values().map(|entry| entry.lease.instance().clone());
        Snapshot::new(self.cursor(&held.origin, self.revision), instances)
    }

    /// The batches of `service` after `after`.
    pub fn batches(
        &mut self,
        now: Duration,
        service: &ServiceName,
        after: &Cursor,
    ) -> Result<Vec<Batch>> {
        self.touch(now, service);
        let revision = after.revision().get();
        let Branch(branch) = origin(service).proof(after)?;
        if revision > self.revision || self.lineage.branch_of(revision) != branch {
            return Err(Error::new(
                ErrorKind::Diverged,
                "the history of this cursor was rolled back: load again",
            ));
        }
        let held = self.services.get(service);
        if revision < held.map_or(self.forgotten, |held| held.floor) {
            return Err(Error::new(
                ErrorKind::Compacted,
                "the history after this cursor is gone: load again",
            ));
        }
        let Some(held) = held else { return Ok(Vec::new()) };
        let first = held.log.partition_point(|batch| batch.revision() <= after.revision());
        Ok(held.log.range(first..).cloned().collect())
    }

    /// The services with a live instance. It looks at all of them.
    pub fn services(&mut self, now: Duration) -> BTreeSet<ServiceName> {
        let listed: Vec<ServiceName> = self.services.keys().cloned().collect();
        for service in &listed {
            self.touch(now, service);
        }
        let live = self.services.iter().filter(|(_, service)| !service.live.is_empty());
        live.map(|(name, _)| name.clone()).collect()
    }

    /// Ends every lease of `service` whose deadline has come, in order of deadline.
    pub fn touch(&mut self, now: Duration, service: &ServiceName) {
        self.forget(self.history.len().saturating_sub(self.retention));
        while let Some(id) = self.services.get_mut(service).and_then(|service| service.pop_due(now))
        {
            self.remove(service, vec![id]);
        }
    }

    /// Whether `lease` holds an instance, as of the last [touch](Self::touch) of its service.
    pub fn holds(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    /// When to [touch](Self::touch) `service` next, if nothing happens before. It may be early.
    pub fn next_deadline(&self, service: &ServiceName) -> Option<Duration> {
        self.services.get(service)?.due.first().map(|(at, _)| *at)
    }

    /// The last revision made.
    pub fn revision(&self) -> Revision {
        Revision::new(self.revision)
    }

    /// What was committed after `revision`, oldest first.
    pub fn committed_after(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (&ServiceName, &Batch)> {
        let first = self.history.partition_point(|(at, _)| *at <= revision.get());
        self.history.range(first..).filter_map(|(at, service)| {
            let log = &self.services.get(service)?.log;
            let n = log.binary_search_by_key(at, |batch| batch.revision().get()).ok()?;
            Some((service, &log[n]))
        })
    }
}

/// What an operator does to a store, on purpose or by accident.
impl Model {
    /// Ends a lease before its time, whoever holds it.
    pub fn revoke(&mut self, now: Duration, lease: LeaseId) {
        let Some((service, id)) = self.leases.get(&lease).cloned() else { return };
        self.touch(now, &service);
        if self.leases.contains_key(&lease) {
            self.remove(&service, vec![id]);
        }
    }

    /// Deletes all instances of `service` at one revision, behind their owners' backs.
    pub fn evict(&mut self, now: Duration, service: &ServiceName) {
        self.touch(now, service);
        let live = self.services.get(service).map(|service| service.live.keys().cloned().collect());
        if let Some(ids) = live.filter(|ids: &Vec<_>| !ids.is_empty()) {
            self.remove(service, ids);
        }
    }

    /// Forgets the history up to `revision`.
    pub fn compact(&mut self, revision: Revision) {
        self.forget(self.history.partition_point(|(at, _)| *at <= revision.get()));
    }

    /// What stands under a lease, with its lease, in order. It looks at all services.
    pub(crate) fn held(&mut self, now: Duration) -> BTreeMap<(ServiceName, InstanceId), LeaseId> {
        self.services(now);
        self.leases.iter().map(|(lease, held)| (held.clone(), *lease)).collect()
    }

    /// A model in which nothing ever happened, that holds as much history as this one.
    pub(crate) fn blank(&self, branch: u64) -> Self {
        Self::new(branch).with_retention(self.retention)
    }

    /// Goes back to an earlier state of this or another model, as a failover to a lagging replica or
    /// a restored backup does. What is done from here on is told from all else by `branch`.
    ///
    /// Every lease found starts its ttl anew: what could not be renewed meanwhile is not to blame.
    pub fn restore(&mut self, now: Duration, backup: Self, branch: u64) {
        *self = backup;
        self.lineage.fork(self.revision, branch);
        for service in self.services.values_mut() {
            service.due.clear();
            for (id, entry) in &mut service.live {
                entry.deadline = now + entry.lease.ttl();
                entry.due = entry.deadline;
                service.due.insert((entry.due, id.clone()));
            }
        }
    }
}

impl Model {
    fn entry(&self, service: &ServiceName, id: &InstanceId) -> Option<&Entry> {
        self.services.get(service)?.live.get(id)
    }

    /// Commits `instance` under the claim's lease.
    fn put(&mut self, instance: &Instance, claim: &Claim) -> Lease {
        let revision = self.commit(instance.service(), vec![Change::Put(instance.clone())]);
        Lease::new(claim.lease(), claim.ttl(), instance.clone(), revision)
    }

    /// Makes `lease` the holder of its instance, for its ttl from `now` on.
    fn hold(&mut self, now: Duration, lease: Lease) {
        let (name, id) = (lease.instance().service().clone(), lease.instance().id().clone());
        let deadline = now + lease.ttl();
        self.leases.insert(lease.id(), (name.clone(), id.clone()));
        let forgotten = self.forgotten;
        let service =
            self.services.entry(name).or_insert_with_key(|name| Service::new(name, forgotten));
        service.due.insert((deadline, id.clone()));
        let held = service.live.insert(id.clone(), Entry { lease, deadline, due: deadline });
        if let Some(due) = held.map(|held| held.due).filter(|due| *due != deadline) {
            service.due.remove(&(due, id));
        }
    }

    /// Commits that `ids`, all live, are gone.
    fn remove(&mut self, name: &ServiceName, ids: Vec<InstanceId>) {
        if let Some(service) = self.services.get_mut(name) {
            for id in &ids {
                if let Some(entry) = service.live.remove(id) {
                    service.due.remove(&(entry.due, id.clone()));
                    self.leases.remove(&entry.lease.id());
                }
            }
        }
        self.commit(name, ids.into_iter().map(Change::Delete).collect());
    }

    /// The only place that makes a revision.
    fn commit(&mut self, name: &ServiceName, changes: Vec<Change>) -> Revision {
        self.revision += 1;
        let proof = Branch(self.lineage.branch_of(self.revision));
        let forgotten = self.forgotten;
        let service = self
            .services
            .entry(name.clone())
            .or_insert_with_key(|name| Service::new(name, forgotten));
        let cursor = service.origin.cursor(Revision::new(self.revision), proof);
        service.log.push_back(Batch::new(cursor, changes));
        self.history.push_back((self.revision, name.clone()));
        self.revision()
    }

    /// Drops the oldest `count` batches of history.
    fn forget(&mut self, count: usize) {
        for (revision, name) in self.history.drain(..count) {
            let Some(service) = self.services.get_mut(&name) else { continue };
            service.log.pop_front();
            service.floor = revision;
            if service.log.is_empty() && service.live.is_empty() {
                self.services.remove(&name);
                self.forgotten = revision;
            }
        }
    }

    fn cursor(&self, origin: &Origin, revision: u64) -> Cursor {
        origin.cursor(Revision::new(revision), Branch(self.lineage.branch_of(revision)))
    }
}

impl Service {
    fn new(name: &ServiceName, floor: u64) -> Self {
        let (live, due, log) = (BTreeMap::new(), BTreeSet::new(), VecDeque::new());
        Self { origin: origin(name), live, due, log, floor }
    }

    /// The instance whose deadline came first, if it has come.
    fn pop_due(&mut self, now: Duration) -> Option<InstanceId> {
        loop {
            let (at, _) = self.due.first().filter(|(at, _)| *at <= now)?;
            let at = *at;
            let (_, id) = self.due.pop_first()?;
            let entry = self.live.get_mut(&id)?;
            if entry.deadline == at {
                return Some(id);
            }
            entry.due = entry.deadline;
            self.due.insert((entry.due, id));
        }
    }
}

fn origin(service: &ServiceName) -> Origin {
    Origin::new("mem", "", service)
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests;
