//! The leases that this process keeps alive.

use crate::ttl::whole_seconds;
use registry_core::{Claim, Instance, Lease, LeaseId, Revision};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The granted or renewed leases, shared by all clones of a registry.
///
/// Forgetting a lease is always safe: its next renewal checks the record, and its next registration looks the
/// lease up in etcd.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeaseTable(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<LeaseId, Entry>,
    /// The number of entries above which abandoned ones are removed.
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    /// The only instance whose keys are attached to the lease.
    instance: Instance,
    /// The granted ttl.
    ttl: Duration,
    /// The requested ttl in seconds. etcd may have raised it.
    requested: i64,
    renewed: Instant,
    /// When its record was last found to be stored as acknowledged.
    seen: Option<Instant>,
    acknowledged: Option<Acknowledged>,
}

/// A lease that exists unless another client revoked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownLease {
    /// The granted ttl.
    pub(crate) ttl: Duration,
    /// The record that was last acknowledged under it, if there is one.
    pub(crate) acknowledged: Option<Acknowledged>,
}

/// An acknowledged record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) revision: Revision,
    /// Whether it has only a side key.
    pub(crate) is_hidden: bool,
}

impl LeaseTable {
    /// Returns the lease of `claim`, unless its ttl has passed or it was granted for another instance or ttl.
    pub(crate) fn find(&self, claim: &Claim, instance: &Instance) -> Option<KnownLease> {
        let inner = self.lock();
        let entry = inner.entries.get(&claim.lease())?;
        let is_same = entry.requested == whole_seconds(claim.ttl())
            && entry.instance.id() == instance.id()
            && entry.instance.service() == instance.service();
        let is_alive = entry.renewed.elapsed() < entry.ttl;
        let known = KnownLease { ttl: entry.ttl, acknowledged: entry.acknowledged };
        (is_same && is_alive).then_some(known)
    }

    /// Records that the lease of `claim` was granted for `ttl`.
    pub(crate) fn add(&self, claim: &Claim, instance: &Instance, ttl: Duration) {
        let entry = Entry {
            instance: instance.clone(),
            ttl,
            requested: whole_seconds(claim.ttl()),
            renewed: Instant::now(),
            seen: None,
            acknowledged: None,
        };
        self.lock().insert(claim.lease(), entry);
    }

    /// Records a renewal of `lease`, and with `is_seen` that its record is still stored as acknowledged.
    pub(crate) fn record(&self, lease: &Lease, is_seen: bool) {
        let now = Instant::now();
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&lease.id()) else {
            let entry = Entry {
                instance: lease.instance().clone(),
                ttl: lease.ttl(),
                requested: whole_seconds(lease.ttl()),
                renewed: now,
                seen: is_seen.then_some(now),
                acknowledged: None,
            };
            return inner.insert(lease.id(), entry);
        };
        entry.renewed = now;
        if is_seen {
            entry.seen = Some(now);
        }
    }

    /// Records that the record of `lease` was acknowledged. With `is_hidden` it has only a side key.
    pub(crate) fn acknowledge(&self, lease: &Lease, is_hidden: bool) {
        self.record(lease, true);
        if let Some(entry) = self.lock().entries.get_mut(&lease.id()) {
            entry.acknowledged = Some(Acknowledged { revision: lease.revision(), is_hidden });
        }
    }

    /// Returns whether the record of `lease` was not checked for a ttl or longer.
    pub(crate) fn is_check_due(&self, lease: &Lease) -> bool {
        let inner = self.lock();
        let entry = inner.entries.get(&lease.id());
        entry.is_none_or(|entry| entry.seen.is_none_or(|seen| seen.elapsed() >= entry.ttl))
    }

    /// Makes the next renewal of `lease` check its record.
    pub(crate) fn require_check(&self, lease: LeaseId) {
        if let Some(entry) = self.lock().entries.get_mut(&lease) {
            entry.seen = None;
        }
    }

    /// Forgets `lease`.
    pub(crate) fn remove(&self, lease: LeaseId) {
        self.lock().entries.remove(&lease);
    }

    /// The lock is held for a few assignments that cannot panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn insert(&mut self, lease: LeaseId, entry: Entry) {
        self.entries.insert(lease, entry);
        if self.entries.len() > self.limit {
            self.sweep();
        }
    }

    /// Removes abandoned leases, which were not renewed for two ttls. The growing limit makes the amortized
    /// cost constant.
    fn sweep(&mut self) {
        self.entries.retain(|_, entry| entry.renewed.elapsed() < 2 * entry.ttl);
        self.limit = (2 * self.entries.len()).max(64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn instance(id: &str) -> Instance {
        let address = "10.0.0.1:80".parse().unwrap();
        Instance::from_parts("a".parse().unwrap(), id.parse().unwrap(), address)
    }

    fn lease(id: i64) -> Lease {
        Lease::new(LeaseId::new(id).unwrap(), TTL, instance("1"), Revision::new(1))
    }

    fn claim(id: i64) -> Claim {
        Claim::new(TTL).unwrap().with_lease(LeaseId::new(id).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn presence_check_is_due_once_per_ttl() {
        let table = LeaseTable::default();
        assert!(table.is_check_due(&lease(1)), "a lease of another process is unknown");
        table.record(&lease(1), true);
        tokio::time::advance(Duration::from_millis(9_999)).await;
        table.record(&lease(1), false);
        assert!(!table.is_check_due(&lease(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(table.is_check_due(&lease(1)));
        table.record(&lease(1), true);
        table.require_check(lease(1).id());
        assert!(table.is_check_due(&lease(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn abandoned_leases_are_forgotten() {
        let table = LeaseTable::default();
        for round in 0..100 {
            for id in 1..=100 {
                table.record(&lease(round * 100 + id), true);
            }
            tokio::time::advance(Duration::from_secs(21)).await;
        }
        let len = table.lock().entries.len();
        assert!(len <= 300, "{len}");
    }

    #[tokio::test(start_paused = true)]
    async fn lease_is_known_for_its_claim_until_its_ttl_has_passed() {
        let table = LeaseTable::default();
        let (own_claim, one) = (claim(1), instance("1"));
        assert_eq!(table.find(&own_claim, &one), None);
        table.add(&own_claim, &one, TTL * 2);
        let known = KnownLease { ttl: TTL * 2, acknowledged: None };
        assert_eq!(table.find(&own_claim, &one), Some(known));
        assert_eq!(table.find(&own_claim, &instance("2")), None);
        let longer = Claim::new(TTL * 2).unwrap().with_lease(own_claim.lease());
        assert_eq!(table.find(&longer, &one), None);
        table.acknowledge(&lease(1), true);
        let acknowledged = Acknowledged { revision: Revision::new(1), is_hidden: true };
        let known = KnownLease { acknowledged: Some(acknowledged), ..known };
        assert_eq!(table.find(&own_claim, &one), Some(known));
        tokio::time::advance(Duration::from_millis(19_999)).await;
        table.record(&lease(1), false);
        tokio::time::advance(Duration::from_millis(19_999)).await;
        assert_eq!(table.find(&own_claim, &one), Some(known));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(table.find(&own_claim, &one), None);
        table.record(&lease(1), false);
        table.remove(own_claim.lease());
        assert_eq!(table.find(&own_claim, &one), None);
    }
}
