//! Limits on the requests that the registrations of a process have in flight.
//!
//! When a store recovers from an outage, all registrations send requests at once. If more requests are in flight than
//! the store answers within their timeout, it works on requests that were already given up and are repeated: after an
//! etcd was paused for 12 s, 100,000 registrations never recovered. So each request waits for a permit before its
//! timeout starts. The shorter the timeout, the fewer requests may be in flight.

use registry_core::Registry;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Renewals and updates of held records that a slow store handles per second. An etcd on one core handles 15,000.
const RENEWALS: u32 = 1_000;

/// Registrations that a slow store handles per second. An etcd on one core handles 2,000.
const REGISTRATIONS: u32 = 300;

/// Watches that a slow store opens per second. An etcd on one core opens 3,000.
const WATCHES: u32 = 50;

/// The number of semaphore permits that represent the whole capacity of a limit.
const SHARES: u32 = 1_000_000;

/// A runtime, and the address of a registry.
type Key = (Id, usize);

/// The request limits of one registry in one runtime. Runtimes do not share limits, since one of them may be blocked.
#[derive(Clone, Debug)]
pub(super) struct RequestLimiter(Arc<Limits>);

/// A limit for each kind of request, so that renewals do not wait for registrations: a lost lease costs more.
#[derive(Debug)]
struct Limits {
    renewals: Limit,
    registrations: Limit,
    watches: Limit,
}

/// Allows as many requests in flight as a slow store answers within their timeout.
#[derive(Debug)]
struct Limit {
    shares: Semaphore,
    /// The number of requests that a slow store answers per second.
    rate: u32,
}

/// The permission to have a request in flight, until it is dropped.
pub(super) type Permit<'a> = SemaphorePermit<'a>;

impl RequestLimiter {
    /// Returns the limiter of `registry` in the caller's runtime.
    pub(super) fn of(registry: &Arc<dyn Registry>) -> Self {
        static ALL: LazyLock<Mutex<HashMap<Key, Weak<Limits>>>> = LazyLock::new(Mutex::default);
        let key = (Handle::current().id(), Arc::as_ptr(registry).cast::<()>() as usize);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
            return Self(found);
        }
        all.retain(|_, limits| limits.strong_count() > 0);
        let new = Arc::new(Limits {
            renewals: Limit::new(RENEWALS),
            registrations: Limit::new(REGISTRATIONS),
            watches: Limit::new(WATCHES),
        });
        all.insert(key, Arc::downgrade(&new));
        Self(new)
    }

    /// Waits for the permit for a renewal with the timeout `limit`. Returns `None` if there is none by `until`.
    pub(super) async fn renewal(&self, limit: Duration, until: Instant) -> Option<Permit<'_>> {
        let renewals = &self.0.renewals;
        match renewals.try_permit(limit) {
            Some(permit) => Some(permit), // the common case needs no timer
            None => timeout_at(until, renewals.permit(limit)).await.ok()?,
        }
    }

    pub(super) async fn registration(&self, limit: Duration) -> Option<Permit<'_>> {
        self.0.registrations.permit(limit).await
    }

    pub(super) async fn watch(&self, limit: Duration) -> Option<Permit<'_>> {
        self.0.watches.permit(limit).await
    }
}

impl Limit {
    fn new(rate: u32) -> Self {
        Self { shares: Semaphore::new(SHARES as usize), rate }
    }

    fn try_permit(&self, limit: Duration) -> Option<Permit<'_>> {
        self.shares.try_acquire_many(self.share(limit)).ok()
    }

    async fn permit(&self, limit: Duration) -> Option<Permit<'_>> {
        self.shares.acquire_many(self.share(limit)).await.ok() // the semaphore is never closed
    }

    fn share(&self, limit: Duration) -> u32 {
        /// A request with a shorter timeout would take nearly all shares.
        const MIN_LIMIT: Duration = Duration::from_millis(200);
        let limit = u64::try_from(limit.max(MIN_LIMIT).as_millis()).unwrap_or(u64::MAX);
        let at_a_time = u64::from(self.rate).saturating_mul(limit) / 1_000;
        u32::try_from(u64::from(SHARES) / at_a_time.max(1)).unwrap_or(SHARES).max(1)
    }
}
