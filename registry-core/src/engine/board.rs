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

/// How many are held before it is looked at all what every subscriber has read.
const FEW: usize = 16;

/// One writer, any number of readers.
pub(crate) struct Board {
    picture: ArcSwap<Picture>,
    log: Mutex<Log>,
    waiting: Mutex<Slab<Arc<AtomicWaker>>>,
    coalesced: Counter,
}

/// The last changes, numbered from 1. Who stands before the first of them begins with the state.
#[derive(Debug)]
struct Log {
    /// The store's truth after the last batch.
    truth: Option<Snapshot>,
    batches: VecDeque<Arc<Batch>>,
    /// The number of the first batch held, or of the next if there is none.
    first: u64,
    /// The number of the first batch since the last restart.
    restarted: u64,
    /// The number of the batch that each reader takes next. Nothing is held for nobody.
    readers: Slab<u64>,
    /// At how many batches held to look what all have read.
    full: usize,
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
        let log = Log {
            truth: None,
            batches: VecDeque::new(),
            first: 1,
            restarted: 0,
            readers: Slab::new(),
            full: FEW,
        };
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
        log.batches.extend(batches.drain(..));
        log.trim();
    }

    /// Begins to hold changes, for a reader more, who is known by the number returned.
    pub(crate) fn attend(&self) -> usize {
        lock(&self.log).readers.insert(0)
    }

    /// Ends what [`attend`](Self::attend) began.
    pub(crate) fn leave(&self, reader: usize) {
        let mut log = lock(&self.log);
        log.readers.remove(reader);
        if log.readers.is_empty() {
            log.trim();
        }
    }

    /// What comes next for `reader`; `None` if that is still to come.
    pub(crate) fn news(&self, reader: usize) -> Option<News> {
        let mut log = lock(&self.log);
        let next = log.readers[reader];
        if next < log.first {
            let truth = log.truth.clone()?;
            let lagged = next >= log.restarted && next > 0;
            log.readers[reader] = log.first + log.batches.len() as u64;
            drop(log); // the recorder is foreign code
            if lagged {
                self.coalesced.increment(1);
            }
            return Some(News::State(truth));
        }
        let n = usize::try_from(next - log.first).ok()?;
        let batch = log.batches.get(n)?.clone();
        log.readers[reader] += 1;
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

impl Log {
    /// Drops what all have read, what nobody reads, and what is too much. It looks at the readers only
    /// when there is twice as much as the last time.
    fn trim(&mut self) {
        let held = self.batches.len();
        if held < self.full && !self.readers.is_empty() {
            return;
        }
        // Who stands before the first gets the state, and needs none of these.
        let waits = self.readers.iter().map(|(_, next)| *next).filter(|next| *next >= self.first);
        let read = waits
            .min()
            .map_or(held, |slowest| usize::try_from(slowest - self.first).unwrap_or(held));
        let drop = read.max(held.saturating_sub(BACKLOG)).min(held);
        self.batches.drain(..drop);
        self.first += drop as u64;
        self.full = (self.batches.len() * 2).clamp(FEW, BACKLOG + 1);
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

#[cfg(test)]
mod tests {
    use super::super::view::ViewState;
    use super::*;
    use crate::{Change, Cursor, Instances, Origin, Revision};
    use tokio::time::Instant;

    fn at(revision: u64) -> Cursor {
        Origin::new("mem", "", &"a".parse().unwrap()).cursor(Revision::new(revision), 0)
    }

    fn board() -> Board {
        let state = ViewState::Loading { since: Instant::now() };
        let (instances, retained) = (Instances::default(), Box::default());
        let board = Board::new(
            Picture { instances, retained, truth: None, state, version: 0 },
            Counter::noop(),
        );
        board.restart(Snapshot::new(at(0), []));
        board
    }

    fn append(board: &Board, revision: u64) {
        let change = Change::Delete("1".parse().unwrap());
        let batch = Arc::new(Batch::new(at(revision), vec![change]));
        board.append(Snapshot::new(at(revision), []), &mut vec![batch]);
    }

    fn held(board: &Board) -> usize {
        lock(&board.log).batches.len()
    }

    #[test]
    fn what_all_have_read_is_not_held() {
        let board = board();
        let reader = board.attend();
        assert!(matches!(board.news(reader), Some(News::State(_))));
        for revision in 1..5_000 {
            append(&board, revision);
            let Some(News::Batch(batch)) = board.news(reader) else { panic!("a batch") };
            assert_eq!(batch.revision(), Revision::new(revision));
            assert!(held(&board) <= 2 * FEW, "{}", held(&board));
        }
        board.leave(reader);
        assert_eq!(held(&board), 0, "nothing is held for nobody");
    }

    #[test]
    fn one_that_does_not_read_has_a_backlog_held_and_no_more_after_it() {
        let board = board();
        let (reader, stuck) = (board.attend(), board.attend());
        assert!(board.news(reader).is_some() && board.news(stuck).is_some());
        let backlog = BACKLOG as u64;
        for revision in 1..=backlog {
            append(&board, revision);
            assert!(matches!(board.news(reader), Some(News::Batch(_))));
        }
        assert_eq!(held(&board), BACKLOG);
        for revision in backlog + 1..backlog * 3 {
            append(&board, revision);
            assert!(matches!(board.news(reader), Some(News::Batch(_))));
            assert!(held(&board) <= BACKLOG);
        }
        assert!(held(&board) <= 2 * FEW, "it gets the state now: {}", held(&board));
        assert!(matches!(board.news(stuck), Some(News::State(_))));
        assert!(board.news(stuck).is_none());
    }
}
