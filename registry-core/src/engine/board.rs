//! What a view's task publishes and its handles read: the picture, the last changes, and who waits.

use super::view::Picture;
use crate::{Batch, Snapshot};
use arc_swap::{ArcSwap, Guard};
use futures_util::task::AtomicWaker;
use metrics::Counter;
use slab::Slab;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

/// How many batches are held for subscribers that do not read; then they get the state instead.
pub(crate) const BACKLOG: usize = 1024;

/// One writer, any number of readers.
pub(crate) struct Board {
    picture: ArcSwap<Picture>,
    log: Mutex<Log>,
    waiting: Mutex<Slab<Arc<AtomicWaker>>>,
    coalesced: Counter,
}

/// The last changes, numbered from 1. Who stands before the first of them begins with the state.
#[derive(Debug, Default)]
struct Log {
    /// The store's truth after the last batch.
    truth: Option<Snapshot>,
    batches: VecDeque<Arc<Batch>>,
    /// The number of the first batch held, or of the next if there is none.
    first: u64,
    /// The number of the first batch since the last restart.
    restarted: u64,
    /// How many read this. Nothing is held for nobody.
    readers: usize,
}

/// What a subscriber is to be told next.
#[derive(Debug)]
pub(crate) enum News {
    /// It missed what was no longer held, or all of it: this is the truth now.
    State(Snapshot),
    Batch(Arc<Batch>),
}

impl Board {
    pub(crate) fn new(picture: Picture, coalesced: Counter) -> Self {
        let log = Log { first: 1, ..Log::default() };
        Self {
            picture: ArcSwap::from_pointee(picture),
            log: Mutex::new(log),
            waiting: Mutex::new(Slab::new()),
            coalesced,
        }
    }

    /// The picture, without waiting for anybody.
    pub(crate) fn picture(&self) -> Guard<Arc<Picture>> {
        self.picture.load()
    }

    /// The cell, for readers that remember what it held.
    pub(crate) fn cell(&self) -> &ArcSwap<Picture> {
        &self.picture
    }

    /// Shows `picture`. Readers see it before they are told what changed.
    pub(crate) fn show(&self, picture: Picture) {
        self.picture.store(Arc::new(picture));
    }

    /// The truth is `truth` now, and what was said before is of no more use.
    pub(crate) fn restart(&self, truth: Snapshot) {
        let mut log = lock(&self.log);
        log.first += log.batches.len() as u64 + 1; // nobody stands there
        log.restarted = log.first;
        log.batches.clear();
        log.truth = Some(truth);
    }

    /// The truth is `truth` now, by `batches`.
    pub(crate) fn append(&self, truth: Snapshot, batches: &mut Vec<Arc<Batch>>) {
        let mut log = lock(&self.log);
        log.truth = Some(truth);
        if log.readers == 0 {
            log.first += (log.batches.len() + batches.len()) as u64;
            log.batches.clear();
            batches.clear();
            return;
        }
        log.batches.extend(batches.drain(..));
        let excess = log.batches.len().saturating_sub(BACKLOG);
        log.batches.drain(..excess);
        log.first += excess as u64;
    }

    /// Begins to hold changes, for a reader more.
    pub(crate) fn attend(&self) {
        lock(&self.log).readers += 1;
    }

    /// Ends what [`attend`](Self::attend) began.
    pub(crate) fn leave(&self) {
        let mut log = lock(&self.log);
        log.readers -= 1;
        if log.readers == 0 {
            log.first += log.batches.len() as u64;
            log.batches.clear();
        }
    }

    /// What comes at `next`, which is moved on; `None` if that is still to come.
    pub(crate) fn news(&self, next: &mut u64) -> Option<News> {
        let log = lock(&self.log);
        if *next < log.first {
            let truth = log.truth.clone()?;
            let lagged = *next >= log.restarted && *next > 0;
            *next = log.first + log.batches.len() as u64;
            drop(log); // the recorder is foreign code
            if lagged {
                self.coalesced.increment(1);
            }
            return Some(News::State(truth));
        }
        let n = usize::try_from(*next - log.first).ok()?;
        let batch = log.batches.get(n)?.clone();
        *next += 1;
        Some(News::Batch(batch))
    }

    /// Moves all wakers of those who wait to `wakers`. To wake them is left to the caller, since
    /// foreign code may run then, and must find nothing locked.
    pub(crate) fn take_wakers(&self, wakers: &mut Vec<Waker>) {
        wakers.extend(lock(&self.waiting).iter().filter_map(|(_, waker)| waker.take()));
    }

    /// A place to wait at.
    pub(crate) fn listen(self: &Arc<Self>) -> Listener {
        let waker = Arc::new(AtomicWaker::new());
        let place = lock(&self.waiting).insert(waker.clone());
        Listener { board: self.clone(), waker, place }
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("picture", &self.picture).finish_non_exhaustive()
    }
}

/// A place where one task at a time waits for something to be published.
#[derive(Debug)]
pub(crate) struct Listener {
    board: Arc<Board>,
    waker: Arc<AtomicWaker>,
    place: usize,
}

impl Listener {
    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// Has the task woken by what is published from now on. Look once more after this, and only then wait.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.board.waiting).remove(self.place);
    }
}

/// Nothing panics while one of these is held, so that none is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
