//! The renewal scheduler: one task per runtime renews all healthy leases.
//!
//! If each registration renewed in its own task, every renewal would pay for a timer and for waking a task whose memory
//! is cold. At 100,000 registrations that costs several times as much as the renewal itself. If a renewal fails, the
//! registration's own task takes over.

use super::own_record::OwnRecord;
use crate::call::{call, within};
use crate::metrics::contained;
use ::metrics::Counter;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use registry_core::{Error, ErrorKind, Lease, Registry, Result};
use slab::Slab;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

/// The number of renewals to start before the task yields to others on its thread.
const MAX_STARTS: usize = 64;

/// A lease to renew.
pub(super) struct RenewalJob {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) lease: Lease,
    pub(super) record: Arc<OwnRecord>,
    /// The timeout of one request.
    pub(super) timeout: Duration,
    /// Counts successful renewals.
    pub(super) renewed: Counter,
}

impl RenewalJob {
    /// Returns how long a renewal may take, unless the lease expires earlier.
    pub(super) fn limit(&self) -> Duration {
        self.timeout.min(self.lease.ttl() / 3)
    }
}

/// The time when the last acknowledged renewal of a lease was sent, and the time when the next one is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct RenewalTimes {
    pub(super) renewed: Instant,
    pub(super) due: Instant,
}

impl RenewalTimes {
    /// Rounds the due time down to a tick of ttl/384, so that leases are renewed in groups.
    fn aligned(self, ttl: Duration) -> Self {
        Self { due: align(self.due, ttl / 384), ..self }
    }
}

/// The reason why the scheduler stopped renewing a lease.
#[derive(Debug)]
pub(super) enum RenewalStop {
    /// A renewal failed.
    Failed(Error),
    /// The lease may have expired before its renewal could be sent, such as after a pause of the process for one ttl.
    Expired,
}

/// A handle that keeps a lease in the scheduler until it is cancelled or dropped.
pub(super) struct RenewalHandle {
    scheduler: Arc<RenewalScheduler>,
    key: EntryKey,
}

impl RenewalHandle {
    /// Schedules the renewals of a lease, from the last tick until `times.due` on.
    pub(super) fn schedule(job: RenewalJob, times: RenewalTimes) -> Self {
        let times = times.aligned(job.lease.ttl());
        let job = Arc::new(job);
        loop {
            let scheduler = RenewalScheduler::of_this_runtime();
            // The scheduler may have just closed because it had no leases.
            if let Some(key) = scheduler.insert(&job, times) {
                return Self { scheduler, key };
            }
        }
    }

    /// Waits until the scheduler stops renewing the lease.
    pub(super) async fn stopped(&self) {
        poll_fn(|cx| {
            let mut schedule = self.scheduler.lock();
            let entry = &mut schedule.entries[self.key.slot];
            if entry.stop.is_some() {
                return Poll::Ready(());
            }
            entry.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Removes the lease from the schedule once no renewal of it is in flight. Returns its times, and why the scheduler
    /// stopped renewing it, if it did.
    pub(super) async fn cancel(self) -> (RenewalTimes, Option<RenewalStop>) {
        poll_fn(|cx| {
            let mut schedule = self.scheduler.lock();
            let entry = &mut schedule.entries[self.key.slot];
            if !entry.in_flight {
                return Poll::Ready((entry.times, entry.stop.take()));
            }
            entry.is_cancelled = true;
            entry.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for RenewalHandle {
    fn drop(&mut self) {
        let mut schedule = self.scheduler.lock();
        let entry = schedule.entries.remove(self.key.slot);
        let is_last = schedule.entries.is_empty();
        drop(schedule);
        drop(entry); // outside of the lock: it may own the last handle to a registry, whose drop is foreign code
        if is_last {
            self.scheduler.changed.notify_one();
        }
    }
}

/// The scheduler of all renewals of one runtime.
struct RenewalScheduler {
    schedule: Mutex<Schedule>,
    /// Notified when a renewal is due earlier than before, and when no lease is left.
    changed: Notify,
}

#[derive(Default)]
struct Schedule {
    entries: Slab<Entry>,
    /// The entries by due time. A key whose entry was removed is skipped when it is due.
    due: BTreeMap<Instant, Vec<EntryKey>>,
    last_generation: u64,
    /// Whether the task has ended.
    closed: bool,
}

struct Entry {
    /// Distinguishes this entry from earlier ones in the same slot.
    generation: u64,
    job: Arc<RenewalJob>,
    times: RenewalTimes,
    in_flight: bool,
    /// Whether the owner cancelled the entry and waits for the renewal in flight.
    is_cancelled: bool,
    stop: Option<RenewalStop>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy)]
struct EntryKey {
    slot: usize,
    generation: u64,
}

/// The outcome of a renewal.
struct Renewed {
    key: EntryKey,
    sent: Instant,
    outcome: Result<()>,
}

impl RenewalScheduler {
    /// Returns the scheduler of the caller's runtime. Each runtime has its own, since it has its own clock.
    fn of_this_runtime() -> Arc<Self> {
        static ALL: LazyLock<Mutex<HashMap<Id, Weak<RenewalScheduler>>>> =
            LazyLock::new(Mutex::default);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Handle::current().id();
        if let Some(found) = all.get(&id).and_then(Weak::upgrade).filter(|found| !found.is_closed())
        {
            return found;
        }
        all.retain(|_, scheduler| scheduler.strong_count() > 0);
        let new = Arc::new(Self { schedule: Mutex::default(), changed: Notify::new() });
        all.insert(id, Arc::downgrade(&new));
        tokio::spawn(new.clone().run());
        new
    }

    fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn insert(&self, job: &Arc<RenewalJob>, times: RenewalTimes) -> Option<EntryKey> {
        let mut schedule = self.lock();
        if schedule.closed {
            return None;
        }
        schedule.last_generation += 1;
        let generation = schedule.last_generation;
        let entry = Entry {
            generation,
            job: job.clone(),
            times,
            in_flight: false,
            is_cancelled: false,
            stop: None,
            waker: None,
        };
        let key = EntryKey { slot: schedule.entries.insert(entry), generation };
        let is_first = schedule.due.first_key_value().is_none_or(|(first, _)| times.due < *first);
        schedule.due.entry(times.due).or_default().push(key);
        drop(schedule);
        if is_first {
            self.changed.notify_one();
        }
        Some(key)
    }

    /// Runs until no lease is left.
    async fn run(self: Arc<Self>) {
        let _guard = CloseGuard(self.clone());
        let mut in_flight = FuturesUnordered::new();
        let mut timer = pin!(sleep_until(Instant::now()));
        loop {
            while let Some(keys) = self.take_due(Instant::now()) {
                for chunk in keys.chunks(MAX_STARTS) {
                    for mut renewal in chunk.iter().filter_map(|key| self.start(*key)) {
                        match (&mut renewal).now_or_never() {
                            Some(renewed) => self.finish(renewed),
                            None => in_flight.push(renewal),
                        }
                    }
                    yield_now().await;
                }
            }
            let next = self.lock().due.first_key_value().map(|(due, _)| *due);
            if let Some(next) = next.filter(|next| *next != timer.deadline()) {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                () = self.changed.notified() => {}
                Some(renewed) = in_flight.next() => self.finish(renewed),
                () = &mut timer, if next.is_some() => {}
            }
            if in_flight.is_empty() && self.close_if_empty() {
                return;
            }
        }
    }

    /// Takes the entries of the earliest tick that has passed.
    fn take_due(&self, now: Instant) -> Option<Vec<EntryKey>> {
        let mut schedule = self.lock();
        let first = schedule.due.first_entry().filter(|first| *first.key() <= now)?;
        Some(first.remove())
    }

    /// Returns the future that renews an entry; `None` if the entry was removed. The future returns `None` if it did
    /// not send a renewal.
    fn start(self: &Arc<Self>, key: EntryKey) -> Option<BoxFuture<'static, Option<Renewed>>> {
        let (job, expiry) = {
            let mut schedule = self.lock();
            let entry = schedule.find(key)?;
            (entry.job.clone(), entry.expiry())
        };
        let scheduler = self.clone();
        Some(Box::pin(async move {
            let _permit = job.record.limiter().renewal(job.limit(), expiry).await;
            let (sent, remaining) = scheduler.begin(key)?;
            Some(Renewed { key, sent, outcome: renew(&job, remaining).await })
        }))
    }

    /// Begins a renewal that has its permit, unless the entry was removed meanwhile or its lease may have expired.
    /// Returns the current time and the remaining time of the lease.
    fn begin(&self, key: EntryKey) -> Option<(Instant, Duration)> {
        let sent = Instant::now();
        let mut schedule = self.lock();
        let entry = schedule.find(key)?;
        let remaining = entry.expiry().checked_duration_since(sent).filter(|left| !left.is_zero());
        match remaining {
            Some(_) => entry.in_flight = true,
            None => entry.stop(RenewalStop::Expired),
        }
        remaining.map(|remaining| (sent, remaining))
    }

    fn finish(&self, renewed: Option<Renewed>) {
        let Some(Renewed { key, sent, outcome }) = renewed else { return };
        let mut schedule = self.lock();
        let Some(entry) = schedule.find(key) else { return };
        entry.in_flight = false;
        match outcome {
            Ok(()) => {
                let ttl = entry.job.lease.ttl();
                entry.times =
                    RenewalTimes { renewed: sent, due: sent + jitter(ttl / 3, fastrand::f64()) }
                        .aligned(ttl);
                if entry.is_cancelled {
                    entry.wake();
                }
                let due = entry.times.due;
                schedule.due.entry(due).or_default().push(key);
            }
            Err(error) => entry.stop(RenewalStop::Failed(error)),
        }
    }

    /// Closes the scheduler if no lease is left, and returns whether it did. A closed scheduler accepts no leases.
    fn close_if_empty(&self) -> bool {
        let mut schedule = self.lock();
        schedule.closed = schedule.entries.is_empty();
        schedule.closed
    }

    /// Ignores poisoning: no code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stops all entries when the task of a scheduler ends in any way. Each registration then renews by itself once, and
/// joins another scheduler.
struct CloseGuard(Arc<RenewalScheduler>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        let mut schedule = self.0.lock();
        schedule.closed = true;
        let stop = |(_, entry): (usize, &mut Entry)| {
            entry.in_flight = false;
            let message = "the renewal scheduler has ended";
            entry.stop = Some(RenewalStop::Failed(Error::new(ErrorKind::Closed, message)));
            entry.waker.take()
        };
        let wakers: Vec<Waker> = schedule.entries.iter_mut().filter_map(stop).collect();
        drop(schedule);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Schedule {
    fn find(&mut self, key: EntryKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.slot).filter(|entry| entry.generation == key.generation)
    }
}

impl Entry {
    /// Returns when the lease may expire.
    fn expiry(&self) -> Instant {
        self.times.renewed + self.job.lease.ttl()
    }

    fn stop(&mut self, stop: RenewalStop) {
        self.stop = Some(stop);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Renews a lease once. The lease expires after `remaining`.
pub(super) async fn renew(job: &RenewalJob, remaining: Duration) -> Result<()> {
    let limit = job.limit().min(remaining);
    let options = within(limit).with_presence(job.record.presence(&job.lease));
    // Calling through `Arc<dyn Registry>`, which is a registry too, would box the future a second time.
    let registry = &*job.registry;
    let renewal = async { registry.keep_alive(&job.lease, &options).await };
    call("keep_alive", limit, renewal).await?;
    contained(|| job.renewed.increment(1));
    Ok(())
}

/// Rounds `due` down to a tick of a clock that is shared by the whole process.
fn align(due: Instant, tick: Duration) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    let (age, tick) = (due.saturating_duration_since(start).as_nanos(), tick.as_nanos().max(1));
    due - Duration::from_nanos(u64::try_from(age % tick).unwrap_or_default())
}

/// Returns `duration` plus or minus up to a tenth, so that renewals that start together spread out. `random` is at
/// least 0 and less than 1.
pub(super) fn jitter(duration: Duration, random: f64) -> Duration {
    duration.mul_f64(0.91 + random * 0.19) // at least 0.91, since rounding down to a tick takes off some more
}
