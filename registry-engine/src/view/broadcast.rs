//! The broadcaster: a watcher publishes the state and batches, and the handles of its view read them.

use super::state::{ServiceState, ViewStatus};
use arc_swap::{ArcSwap, Guard};
use metrics::Counter;
use registry_core::{Batch, Snapshot};
use slab::Slab;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The maximum number of batches kept for slow subscribers. A subscriber that lags by more receives the state instead.
pub(crate) const MAX_BACKLOG: usize = 1024;

/// Backlog length below which trimming is skipped.
const MIN_TRIM: usize = 16;

/// A change of a service as the store reported it, without retained instances and states from snapshot files; or a change of
/// the view's status.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)] // a consumer that ignored a variant would diverge
pub enum Update {
    /// A snapshot that replaces the whole state: the service has exactly these instances. A `Reset` precedes the first
    /// `Batch`.
    Reset(Snapshot),
    /// The changes of the next revision.
    Batch(Arc<Batch>),
    /// The status of the view after the changes before it. Of several statuses, a subscriber that lags receives the last.
    Status(ViewStatus),
}

/// A channel of states and batches from one writer to any number of readers.
///
/// The writer publishes a state before it takes the wakers. A waiting reader checks the state and stores its waker
/// under the same lock under which the writer takes the wakers, so no wakeup is lost. A waker is foreign code: it is
/// cloned, woken and dropped while no lock is held.
pub(crate) struct Broadcaster {
    state: ArcSwap<ServiceState>,
    /// The version of the state, or of the state that is being published.
    version: AtomicU64,
    backlog: Mutex<Backlog>,
    /// The tasks that wait for a newer state.
    waiters: Mutex<Slab<Option<Waker>>>,
    coalesced: Counter,
}

/// The last batches, numbered from 1. A subscriber whose next batch is no longer kept receives the state.
#[derive(Debug)]
struct Backlog {
    /// The store's snapshot after the last batch.
    snapshot: Option<Snapshot>,
    batches: VecDeque<Arc<Batch>>,
    /// The number of the first batch in the backlog, or of the next batch if the backlog is empty.
    first: u64,
    /// The number of the first batch after the last reset.
    reset_at: u64,
    /// The last status; `None` until the view reports one.
    status: Option<ViewStatus>,
    /// How often the status was set.
    status_changes: u64,
    /// Whether this status is the last one, and no batch follows.
    is_closed: bool,
    /// Without subscribers the backlog is empty.
    subscribers: Slab<Subscriber>,
    /// The length at which the backlog is trimmed next.
    trim_at: usize,
}

#[derive(Debug, Default)]
struct Subscriber {
    /// The number of the next batch that it reads.
    next: u64,
    /// The number of the last status that it has read.
    status_read: u64,
    /// Set while the subscriber waits for that batch.
    waker: Option<Waker>,
}

/// The next item of a subscriber.
enum Next {
    /// The state, since the subscriber has none yet or the state was reset.
    Reset(Snapshot),
    /// The state, since the subscriber lagged and missed batches.
    Coalesced(Snapshot),
    Batch(Arc<Batch>),
    Status(ViewStatus),
}

impl Broadcaster {
    pub(crate) fn new(state: ServiceState, coalesced: Counter) -> Self {
        let backlog = Backlog {
            snapshot: None,
            batches: VecDeque::new(),
            first: 1,
            reset_at: 0,
            status: None,
            status_changes: 0,
            is_closed: false,
            subscribers: Slab::new(),
            trim_at: MIN_TRIM,
        };
        Self {
            version: AtomicU64::new(state.version),
            state: ArcSwap::from_pointee(state),
            backlog: Mutex::new(backlog),
            waiters: Mutex::new(Slab::new()),
            coalesced,
        }
    }

    /// Returns the state. Wait-free.
    #[inline]
    pub(crate) fn state(&self) -> Guard<Arc<ServiceState>> {
        self.state.load()
    }

    /// Returns the version of the state, or of the one that is being published.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns the cell that holds the state, for readers that cache it.
    pub(crate) fn state_cell(&self) -> &ArcSwap<ServiceState> {
        &self.state
    }

    /// Publishes `state`. Readers see it before subscribers and waiters are notified.
    pub(crate) fn publish(&self, state: ServiceState) {
        // The version is stored first, so that a reader of the new state never sees the old version.
        self.version.store(state.version, Ordering::Release);
        self.state.store(Arc::new(state));
    }

    /// Drops the backlog: subscribers continue from `snapshot`.
    pub(crate) fn reset(&self, snapshot: Snapshot) {
        let mut backlog = lock(&self.backlog);
        backlog.first += backlog.batches.len() as u64 + 1; // skips a number, so that every subscriber is before it
        backlog.reset_at = backlog.first;
        backlog.batches.clear();
        backlog.snapshot = Some(snapshot);
    }

    /// Appends `batches`, which lead to `snapshot`.
    pub(crate) fn append(&self, snapshot: Snapshot, batches: &mut Vec<Arc<Batch>>) {
        let mut backlog = lock(&self.backlog);
        backlog.snapshot = Some(snapshot);
        backlog.batches.extend(batches.drain(..));
        backlog.trim();
    }

    /// Sets the status, which subscribers receive after all batches so far. If it `is_last`, their streams then end.
    pub(crate) fn set_status(&self, status: ViewStatus, is_last: bool) {
        let mut backlog = lock(&self.backlog);
        let replaced = backlog.status.replace(status);
        backlog.status_changes += 1;
        backlog.is_closed = is_last;
        drop(backlog);
        drop(replaced); // after the lock, since the source of an error may be foreign code
    }

    /// Adds a subscriber and returns its number. Batches are kept from now on.
    pub(crate) fn subscribe(&self) -> usize {
        lock(&self.backlog).subscribers.insert(Subscriber::default())
    }

    /// Removes a subscriber.
    pub(crate) fn unsubscribe(&self, subscriber: usize) {
        let mut backlog = lock(&self.backlog);
        let subscriber = backlog.subscribers.remove(subscriber);
        if backlog.subscribers.is_empty() {
            backlog.trim();
        }
        drop(backlog);
        drop(subscriber);
    }

    /// Polls for the next update of `subscriber`; `None` after the last one.
    pub(crate) fn poll_next(&self, subscriber: usize, cx: &Context<'_>) -> Poll<Option<Update>> {
        let waker = cx.waker().clone();
        let mut backlog = lock(&self.backlog);
        let Some(next) = backlog.next(subscriber) else {
            if backlog.is_closed {
                return Poll::Ready(None);
            }
            let replaced = backlog.subscribers[subscriber].waker.replace(waker);
            drop(backlog);
            drop(replaced);
            return Poll::Pending;
        };
        drop(backlog);
        Poll::Ready(Some(match next {
            Next::Reset(snapshot) => Update::Reset(snapshot),
            Next::Coalesced(snapshot) => {
                self.coalesced.increment(1); // the recorder is foreign code: no lock is held
                Update::Reset(snapshot)
            }
            Next::Batch(batch) => Update::Batch(batch),
            Next::Status(status) => Update::Status(status),
        }))
    }

    /// Wakes all waiting subscribers and waiters. `wakers` is an empty buffer that the caller reuses.
    pub(crate) fn wake_all(&self, wakers: &mut Vec<Waker>) {
        let mut backlog = lock(&self.backlog);
        wakers.extend(backlog.subscribers.iter_mut().filter_map(|(_, one)| one.waker.take()));
        drop(backlog);
        wakers.extend(lock(&self.waiters).iter_mut().filter_map(|(_, waker)| waker.take()));
        for waker in wakers.drain(..) {
            // A waker is foreign code: its panic must not end this task or keep others waiting.
            drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
        }
    }

    /// Adds a waiter.
    pub(crate) fn waiter(self: &Arc<Self>) -> Waiter {
        Waiter { broadcaster: self.clone(), key: lock(&self.waiters).insert(None) }
    }
}

impl Backlog {
    /// Takes the next item of `subscriber`. Returns `None` if there is none yet.
    fn next(&mut self, subscriber: usize) -> Option<Next> {
        self.next_change(subscriber).or_else(|| self.next_status(subscriber))
    }

    fn next_status(&mut self, subscriber: usize) -> Option<Next> {
        let subscriber = &mut self.subscribers[subscriber];
        let is_read = subscriber.status_read == self.status_changes;
        subscriber.status_read = self.status_changes;
        self.status.clone().filter(|_| !is_read).map(Next::Status)
    }

    fn next_change(&mut self, subscriber: usize) -> Option<Next> {
        let subscriber = &mut self.subscribers[subscriber];
        if subscriber.next < self.first {
            let snapshot = self.snapshot.clone()?;
            let lagged = subscriber.next >= self.reset_at && subscriber.next > 0;
            subscriber.next = self.first + self.batches.len() as u64;
            return Some(if lagged { Next::Coalesced(snapshot) } else { Next::Reset(snapshot) });
        }
        let n = usize::try_from(subscriber.next - self.first).ok()?;
        let batch = self.batches.get(n)?.clone();
        subscriber.next += 1;
        Some(Next::Batch(batch))
    }

    /// Drops the batches that all subscribers have read, and those beyond [`MAX_BACKLOG`]. To amortize the cost, it
    /// does so only when the backlog has doubled since the last time.
    fn trim(&mut self) {
        let len = self.batches.len();
        if len < self.trim_at && !self.subscribers.is_empty() {
            return;
        }
        // A subscriber before the first batch receives the state, so it needs no batches.
        let positions = self.subscribers.iter().map(|(_, one)| one.next);
        let slowest = positions.filter(|next| *next >= self.first).min();
        let read = slowest.map_or(len, |next| usize::try_from(next - self.first).unwrap_or(len));
        let drop = read.max(len.saturating_sub(MAX_BACKLOG)).min(len);
        self.batches.drain(..drop);
        self.first += drop as u64;
        self.trim_at = (self.batches.len() * 2).clamp(MIN_TRIM, MAX_BACKLOG + 1);
    }
}

impl fmt::Debug for Broadcaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcaster").field("state", &self.state).finish_non_exhaustive()
    }
}

/// A waiter for a newer state. Only one task at a time may use it.
#[derive(Debug)]
pub(crate) struct Waiter {
    broadcaster: Arc<Broadcaster>,
    key: usize,
}

impl Waiter {
    /// Returns the output of `look` for the state. While that is `None`, the task is woken at each new state.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        look: impl Fn(&ServiceState) -> Option<T>,
    ) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut waiters = lock(&self.broadcaster.waiters);
        if let Some(found) = look(&self.broadcaster.state()) {
            return Poll::Ready(found);
        }
        let replaced = waiters[self.key].replace(waker);
        drop(waiters);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let waker = lock(&self.broadcaster.waiters).remove(self.key);
        drop(waker);
    }
}

/// Locks a mutex. Ignores poisoning: no code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::ViewStatus;
    use registry_core::{Change, Cursor, Deleted, Origin, Records, Revision};
    use tokio::time::Instant;

    fn at(revision: u64) -> Cursor {
        Origin::new("mem", "", &"a".parse().unwrap()).cursor(Revision::new(revision), 0)
    }

    fn broadcaster() -> Broadcaster {
        let state = ServiceState {
            records: Records::default(),
            is_closed: false,
            avoids_retained: true,
            retained: Box::default(),
            store_snapshot: None,
            is_confirmed: false,
            status: ViewStatus::Loading { since: Instant::now(), why: None },
            version: 0,
        };
        let broadcaster = Broadcaster::new(state, Counter::noop());
        broadcaster.reset(Snapshot::new(at(0), []));
        broadcaster
    }

    fn append(broadcaster: &Broadcaster, revision: u64) {
        let change = Change::Delete(Deleted::new("1".parse().unwrap()));
        let batch = Arc::new(Batch::new(at(revision), vec![change]));
        broadcaster.append(Snapshot::new(at(revision), []), &mut vec![batch]);
    }

    /// Returns the next update of `subscriber`, if there is one.
    fn next(broadcaster: &Broadcaster, subscriber: usize) -> Option<Update> {
        match broadcaster.poll_next(subscriber, &Context::from_waker(Waker::noop())) {
            Poll::Ready(update) => update,
            Poll::Pending => None,
        }
    }

    fn backlog_len(broadcaster: &Broadcaster) -> usize {
        lock(&broadcaster.backlog).batches.len()
    }

    #[test]
    fn batches_that_all_subscribers_have_read_are_dropped() {
        let broadcaster = broadcaster();
        let subscriber = broadcaster.subscribe();
        assert!(matches!(next(&broadcaster, subscriber), Some(Update::Reset(_))));
        for revision in 1..5_000 {
            append(&broadcaster, revision);
            let Some(Update::Batch(batch)) = next(&broadcaster, subscriber) else {
                panic!("a batch")
            };
            assert_eq!(batch.revision(), Revision::new(revision));
            let len = backlog_len(&broadcaster);
            assert!(len <= 2 * MIN_TRIM, "{len}");
        }
        broadcaster.unsubscribe(subscriber);
        assert_eq!(backlog_len(&broadcaster), 0, "without subscribers the backlog is empty");
    }

    #[test]
    fn a_stuck_subscriber_keeps_at_most_one_backlog_and_then_receives_the_state() {
        let broadcaster = broadcaster();
        let (fast, stuck) = (broadcaster.subscribe(), broadcaster.subscribe());
        assert!(next(&broadcaster, fast).is_some() && next(&broadcaster, stuck).is_some());
        let max = MAX_BACKLOG as u64;
        for revision in 1..=max {
            append(&broadcaster, revision);
            assert!(matches!(next(&broadcaster, fast), Some(Update::Batch(_))));
        }
        assert_eq!(backlog_len(&broadcaster), MAX_BACKLOG);
        for revision in max + 1..max * 3 {
            append(&broadcaster, revision);
            assert!(matches!(next(&broadcaster, fast), Some(Update::Batch(_))));
            assert!(backlog_len(&broadcaster) <= MAX_BACKLOG);
        }
        let len = backlog_len(&broadcaster);
        assert!(len <= 2 * MIN_TRIM, "the stuck subscriber no longer keeps the backlog: {len}");
        assert!(matches!(next(&broadcaster, stuck), Some(Update::Reset(_))));
        assert!(next(&broadcaster, stuck).is_none());
    }
}
