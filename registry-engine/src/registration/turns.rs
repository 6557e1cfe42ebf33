//! How many requests the registrations of a process make at a time.
//!
//! When a store comes back, all owners ask for something at once. If it were asked for more than it answers within the time
//! limit of a request, it would work on requests that were given up and are repeated: 100,000 registrations were never
//! back after an etcd had stood still for 12 s. So each request waits for its turn before its time limit begins. The less
//! time it has, the fewer are made at a time.

use registry_core::Registry;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// The renewals, and updates of what is registered, that a slow store makes in a second. An etcd on one core makes 15,000.
const RENEWALS: u32 = 1_000;

/// The registrations. An etcd on one core makes 2,000.
const REGISTRATIONS: u32 = 300;

/// The watches that it opens. An etcd on one core opens 3,000.
const WATCHES: u32 = 50;

/// Into so many shares a queue is divided.
const SHARES: u32 = 1_000_000;

/// A runtime, and the address of a registry.
type Key = (Id, usize);

/// The turns of one registry, in one runtime: another may stand still.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Queues>);

/// Who waits for what. A renewal does not wait for registrations, since a lease that is lost costs more.
#[derive(Debug)]
struct Queues {
    renewals: Queue,
    registrations: Queue,
    watches: Queue,
}

/// Lets in as many as a slow store answers within the time limit that they have.
#[derive(Debug)]
struct Queue {
    shares: Semaphore,
    /// How many a slow store answers in a second.
    rate: u32,
}

/// A turn, which ends when it is dropped.
pub(super) type Turn<'a> = SemaphorePermit<'a>;

impl Turns {
    /// Returns those of the caller's runtime.
    pub(super) fn of(registry: &Arc<dyn Registry>) -> Self {
        static ALL: LazyLock<Mutex<HashMap<Key, Weak<Queues>>>> = LazyLock::new(Mutex::default);
        let key = (Handle::current().id(), Arc::as_ptr(registry).cast::<()>() as usize);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
            return Self(found);
        }
        all.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::new(Queues {
            renewals: Queue::new(RENEWALS),
            registrations: Queue::new(REGISTRATIONS),
            watches: Queue::new(WATCHES),
        });
        all.insert(key, Arc::downgrade(&new));
        Self(new)
    }

    /// Waits for the turn of a renewal that may take up to `limit`. `None` if it does not come by `until`.
    pub(super) async fn renewal(&self, limit: Duration, until: Instant) -> Option<Turn<'_>> {
        let queue = &self.0.renewals;
        match queue.try_turn(limit) {
            Some(turn) => Some(turn), // without a timer
            None => timeout_at(until, queue.turn(limit)).await.ok()?,
        }
    }

    pub(super) async fn registration(&self, limit: Duration) -> Option<Turn<'_>> {
        self.0.registrations.turn(limit).await
    }

    pub(super) async fn watch(&self, limit: Duration) -> Option<Turn<'_>> {
        self.0.watches.turn(limit).await
    }
}

impl Queue {
    fn new(rate: u32) -> Self {
        Self { shares: Semaphore::new(SHARES as usize), rate }
    }

    fn try_turn(&self, limit: Duration) -> Option<Turn<'_>> {
        self.shares.try_acquire_many(self.share(limit)).ok()
    }

    async fn turn(&self, limit: Duration) -> Option<Turn<'_>> {
        self.shares.acquire_many(self.share(limit)).await.ok() // it is never closed
    }

    fn share(&self, limit: Duration) -> u32 {
        /// Who has less time would keep all others out.
        const MIN_LIMIT: Duration = Duration::from_millis(200);
        let limit = u64::try_from(limit.max(MIN_LIMIT).as_millis()).unwrap_or(u64::MAX);
        let at_a_time = u64::from(self.rate).saturating_mul(limit) / 1_000;
        u32::try_from(u64::from(SHARES) / at_a_time.max(1)).unwrap_or(SHARES).max(1)
    }
}
