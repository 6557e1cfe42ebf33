//! The renewals of a runtime: one task for all leases that nothing is wrong with.
//!
//! With a task each, every renewal pays for a timer and for waking a task whose memory is cold: measured
//! at 100,000 registrations, that is several times as much as the renewal itself. What goes wrong with a
//! lease is left to the keeper whose it is.

use ::metrics::Counter;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use registry_core::{Error, ErrorKind, Lease, Registry, Result};
use slab::Slab;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};

/// How many renewals are begun before others on the thread have their turn.
const TURN: usize = 64;

/// What to renew, and how.
pub(crate) struct Charge {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) lease: Lease,
    /// How long a renewal may take; and never longer than a third of the ttl.
    pub(crate) timeout: Duration,
    /// Counts those that succeed.
    pub(crate) count: Counter,
}

/// When a lease was last renewed, by when the request was sent, and when to send the next.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) renewed: Instant,
    pub(crate) due: Instant,
}

impl Times {
    /// Of a lease that was acknowledged in answer to what was sent at `sent`. The next renewal is due
    /// after `wait`, or a little before it, when many others are: on a tick of a 128th of the usual.
    pub(crate) fn after(sent: Instant, wait: Duration, ttl: Duration) -> Self {
        Self { renewed: sent, due: in_step(sent + wait, ttl / 384) }
    }
}

/// The end of the calm.
pub(crate) enum End {
    /// A renewal failed.
    Failed(Error),
    /// A renewal was due, and the lease may have been over: the process stood still for a ttl.
    Lapsed,
}

/// A lease among the others, for as long as this is held.
pub(crate) struct Kept {
    renewals: Arc<Renewals>,
    ticket: Ticket,
}

impl Kept {
    /// Has the lease of `charge` renewed when it is due, and from then on.
    pub(crate) fn enter(charge: Charge, times: Times) -> Self {
        let charge = Arc::new(charge);
        loop {
            let renewals = Renewals::of_this_runtime();
            // It may just have ended, for want of leases.
            if let Some(ticket) = renewals.enter(&charge, times) {
                return Self { renewals, ticket };
            }
        }
    }

    /// Waits until something goes wrong.
    pub(crate) async fn ended(&self) {
        poll_fn(|cx| {
            let mut book = self.renewals.lock();
            let entry = &mut book.entries[self.ticket.place];
            if entry.end.is_some() {
                return Poll::Ready(());
            }
            entry.keeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Takes it out, once no renewal is under way. Gives what went wrong, if anything did.
    pub(crate) async fn leave(self) -> (Times, Option<End>) {
        poll_fn(|cx| {
            let mut book = self.renewals.lock();
            let entry = &mut book.entries[self.ticket.place];
            if !entry.is_under_way {
                return Poll::Ready((entry.times, entry.end.take()));
            }
            entry.is_leaving = true;
            entry.keeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut book = self.renewals.lock();
        let entry = book.entries.remove(self.ticket.place);
        let is_last = book.entries.is_empty();
        drop(book);
        drop(entry); // maybe the last handle to a registry, and that is foreign code
        if is_last {
            self.renewals.news.notify_one();
        }
    }
}

/// All that is renewed on one runtime.
struct Renewals {
    book: Mutex<Book>,
    /// Something is due earlier than it was, or nothing is there any more.
    news: Notify,
}

#[derive(Default)]
struct Book {
    entries: Slab<Entry>,
    /// Who is due when. A ticket whose entry was taken out is passed over then.
    due: BTreeMap<Instant, Vec<Ticket>>,
    issued: u64,
    /// Whether the task has ended.
    is_over: bool,
}

struct Entry {
    /// Tells this entry from those that had its place before.
    number: u64,
    charge: Arc<Charge>,
    times: Times,
    is_under_way: bool,
    /// Whether the keeper waits for what is under way, and not for the end of the calm.
    is_leaving: bool,
    end: Option<End>,
    keeper: Option<Waker>,
}

/// Names an entry.
#[derive(Clone, Copy)]
struct Ticket {
    place: usize,
    number: u64,
}

/// How a renewal went.
struct Done {
    ticket: Ticket,
    sent: Instant,
    outcome: Result<()>,
}

impl Renewals {
    /// Those of the runtime of the caller. A runtime has a clock of its own.
    fn of_this_runtime() -> Arc<Self> {
        static ALL: LazyLock<Mutex<HashMap<Id, Weak<Renewals>>>> = LazyLock::new(Mutex::default);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Handle::current().id();
        if let Some(found) = all.get(&id).and_then(Weak::upgrade).filter(|found| !found.is_over()) {
            return found;
        }
        all.retain(|_, renewals| renewals.strong_count() > 0);
        let new = Arc::new(Self { book: Mutex::default(), news: Notify::new() });
        all.insert(id, Arc::downgrade(&new));
        tokio::spawn(new.clone().run());
        new
    }

    fn is_over(&self) -> bool {
        self.lock().is_over
    }

    fn enter(&self, charge: &Arc<Charge>, times: Times) -> Option<Ticket> {
        let mut book = self.lock();
        if book.is_over {
            return None;
        }
        book.issued += 1;
        let number = book.issued;
        let entry = Entry {
            number,
            charge: charge.clone(),
            times,
            is_under_way: false,
            is_leaving: false,
            end: None,
            keeper: None,
        };
        let ticket = Ticket { place: book.entries.insert(entry), number };
        let is_first = book.due.first_key_value().is_none_or(|(first, _)| times.due < *first);
        book.due.entry(times.due).or_default().push(ticket);
        drop(book);
        if is_first {
            self.news.notify_one();
        }
        Some(ticket)
    }

    /// Runs until nothing is left to renew.
    async fn run(self: Arc<Self>) {
        let mut under_way = FuturesUnordered::new();
        let mut alarm = pin!(sleep_until(Instant::now()));
        loop {
            while let Some(tickets) = self.take_due(Instant::now()) {
                for turn in tickets.chunks(TURN) {
                    for mut renewal in turn.iter().filter_map(|ticket| self.begin(*ticket)) {
                        match (&mut renewal).now_or_never() {
                            Some(done) => self.finish(done),
                            None => under_way.push(renewal),
                        }
                    }
                    yield_now().await;
                }
            }
            let next = self.lock().due.first_key_value().map(|(due, _)| *due);
            if let Some(next) = next.filter(|next| *next != alarm.deadline()) {
                alarm.as_mut().reset(next);
            }
            tokio::select! {
                () = self.news.notified() => {}
                Some(done) = under_way.next() => self.finish(done),
                () = &mut alarm, if next.is_some() => {}
            }
            if under_way.is_empty() && self.close() {
                return;
            }
        }
    }

    /// Those of the first tick that has come.
    fn take_due(&self, now: Instant) -> Option<Vec<Ticket>> {
        let mut book = self.lock();
        let first = book.due.first_entry().filter(|first| *first.key() <= now)?;
        Some(first.remove())
    }

    /// The renewal of an entry, unless that is gone or comes too late.
    fn begin(&self, ticket: Ticket) -> Option<BoxFuture<'static, Done>> {
        let sent = Instant::now();
        let mut book = self.lock();
        let entry = book.find(ticket)?;
        let lapse = entry.times.renewed + entry.charge.lease.ttl();
        if lapse <= sent {
            entry.finish(End::Lapsed);
            return None;
        }
        entry.is_under_way = true;
        let charge = entry.charge.clone();
        drop(book);
        Some(Box::pin(
            async move { Done { ticket, sent, outcome: renew(&charge, lapse - sent).await } },
        ))
    }

    fn finish(&self, Done { ticket, sent, outcome }: Done) {
        let mut book = self.lock();
        let Some(entry) = book.find(ticket) else { return };
        entry.is_under_way = false;
        match outcome {
            Ok(()) => {
                let ttl = entry.charge.lease.ttl();
                entry.times = Times::after(sent, jittered(ttl / 3), ttl);
                if entry.is_leaving {
                    entry.wake();
                }
                let due = entry.times.due;
                book.due.entry(due).or_default().push(ticket);
            }
            Err(error) => entry.finish(End::Failed(error)),
        }
    }

    /// Whether nothing is left; nothing comes in then.
    fn close(&self) -> bool {
        let mut book = self.lock();
        book.is_over = book.entries.is_empty();
        book.is_over
    }

    /// Held for a few assignments, and nothing panics meanwhile.
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn find(&mut self, ticket: Ticket) -> Option<&mut Entry> {
        self.entries.get_mut(ticket.place).filter(|entry| entry.number == ticket.number)
    }
}

impl Entry {
    fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.wake();
        }
    }
}

/// Renews a lease, once. It stands for what is `left`.
pub(crate) async fn renew(charge: &Charge, left: Duration) -> Result<()> {
    let limit = charge.timeout.min(charge.lease.ttl() / 3).min(left);
    let renewal = timeout(limit, charge.registry.keep_alive(&charge.lease));
    // A store that panics does so to its keeper, which asks again: not to all others.
    let answer = match AssertUnwindSafe(renewal).catch_unwind().await {
        Ok(answer) => answer.unwrap_or_else(|_| Err(late(limit))),
        Err(_) => Err(Error::new(ErrorKind::Internal, "the store panicked")),
    };
    if answer.is_ok() {
        charge.count.increment(1);
    }
    answer
}

/// What did not come within `limit`.
pub(crate) fn late(limit: Duration) -> Error {
    let message = format!("the store did not answer in time, timeout=`{limit:?}`");
    Error::new(ErrorKind::Unavailable, message)
}

/// The last tick of a clock of the whole process before `due`, so that many are due at once.
fn in_step(due: Instant, tick: Duration) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    let (age, tick) = (due.saturating_duration_since(start).as_nanos(), tick.as_nanos().max(1));
    due - Duration::from_nanos(u64::try_from(age % tick).unwrap_or_default())
}

/// A tenth more or less, so that what happens together spreads out.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.91 + fastrand::f64() * 0.19) // a tick may be taken off it
}
