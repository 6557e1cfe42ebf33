//! What a view's task publishes and its handles read: the picture, the last changes, and who waits.

use super::updates::Update;
use super::view::Picture;
use arc_swap::{ArcSwap, Guard};
use metrics::Counter;
use registry_core::{Batch, Snapshot};
use slab::Slab;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// How many batches are held for subscribers that do not read; then they get the state instead.
pub(crate) const BACKLOG: usize = 1024;

/// How many are held before it is looked at all what every subscriber has read.
const FEW: usize = 16;

/// One writer, any number of readers.
///
/// A change is published before the wakers are taken, and who waits looks and leaves a waker under the
/// lock that they are taken under: it sees the change, or is woken by it. A waker is foreign code, so
/// it is cloned, woken and dropped with nothing locked.
pub(crate) struct Board {
    picture: ArcSwap<Picture>,
    log: Mutex<Log>,
    /// Who waits for another picture.
    waiting: Mutex<Slab<Option<Waker>>>,
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
    /// Nothing is held for nobody.
    readers: Slab<Reader>,
    /// At how many batches held to look what all have read.
    full: usize,
}

/// Who is told each change.
#[derive(Debug, Default)]
struct Reader {
    /// The number of the batch that it takes next.
    next: u64,
    /// Set while it waits for that.
    waker: Option<Waker>,
}

/// What a reader is told next.
enum Next {
    /// It knew nothing, or what it knew is of no more use: this is the truth now.
    Start(Snapshot),
    /// It missed what is no longer held: this is the truth now.
    Coalesced(Snapshot),
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
    #[inline]
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
        lock(&self.log).readers.insert(Reader::default())
    }

    /// Ends what [`attend`](Self::attend) began.
    pub(crate) fn leave(&self, reader: usize) {
        let mut log = lock(&self.log);
        let reader = log.readers.remove(reader);
        if log.readers.is_empty() {
            log.trim();
        }
        drop(log);
        drop(reader);
    }

    /// What comes next for `reader`, whose task is woken when there is any.
    pub(crate) fn poll_next(&self, reader: usize, cx: &Context<'_>) -> Poll<Update> {
        let waker = cx.waker().clone();
        let mut log = lock(&self.log);
        let Some(next) = log.next(reader) else {
            let replaced = log.readers[reader].waker.replace(waker);
            drop(log);
            drop(replaced);
            return Poll::Pending;
        };
        drop(log);
        Poll::Ready(match next {
            Next::Start(truth) => Update::Reset(truth),
            Next::Coalesced(truth) => {
                self.coalesced.increment(1); // the recorder is foreign code
                Update::Reset(truth)
            }
            Next::Batch(batch) => Update::Batch(batch),
        })
    }

    /// Moves all wakers of those who wait to `wakers`, for the caller to wake.
    pub(crate) fn take_wakers(&self, wakers: &mut Vec<Waker>) {
        let mut log = lock(&self.log);
        wakers.extend(log.readers.iter_mut().filter_map(|(_, reader)| reader.waker.take()));
        drop(log);
        wakers.extend(lock(&self.waiting).iter_mut().filter_map(|(_, waker)| waker.take()));
    }

    /// A place to wait at.
    pub(crate) fn listen(self: &Arc<Self>) -> Listener {
        Listener { board: self.clone(), place: lock(&self.waiting).insert(None) }
    }
}

impl Log {
    /// Takes what comes next for `reader`; `None` if that is still to come.
    fn next(&mut self, reader: usize) -> Option<Next> {
        let reader = &mut self.readers[reader];
        if reader.next < self.first {
            let truth = self.truth.clone()?;
            let coalesced = reader.next >= self.restarted && reader.next > 0;
            reader.next = self.first + self.batches.len() as u64;
            return Some(if coalesced { Next::Coalesced(truth) } else { Next::Start(truth) });
        }
        let n = usize::try_from(reader.next - self.first).ok()?;
        let batch = self.batches.get(n)?.clone();
        reader.next += 1;
        Some(Next::Batch(batch))
    }

    /// Drops what all have read, what nobody reads, and what is too much. It looks at the readers only
    /// when there is twice as much as the last time.
    fn trim(&mut self) {
        let held = self.batches.len();
        if held < self.full && !self.readers.is_empty() {
            return;
        }
        // Who stands before the first gets the state, and needs none of these.
        let waits =
            self.readers.iter().map(|(_, reader)| reader.next).filter(|next| *next >= self.first);
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

/// A place where one task at a time waits for another picture.
#[derive(Debug)]
pub(crate) struct Listener {
    board: Arc<Board>,
    place: usize,
}

impl Listener {
    /// What `look` finds in the picture; if that is nothing, the task is woken when there is another.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        look: impl Fn(&Picture) -> Option<T>,
    ) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut waiting = lock(&self.board.waiting);
        if let Some(found) = look(&self.board.picture()) {
            return Poll::Ready(found);
        }
        let replaced = waiting[self.place].replace(waker);
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let waker = lock(&self.board.waiting).remove(self.place);
        drop(waker);
    }
}

/// Nothing panics while one of these is held, so that none is ever poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::ViewState;
    use registry_core::{Change, Cursor, Instances, Origin, Revision};
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

    /// What `reader` is told, if anything.
    fn told(board: &Board, reader: usize) -> Option<Update> {
        match board.poll_next(reader, &Context::from_waker(Waker::noop())) {
            Poll::Ready(update) => Some(update),
            Poll::Pending => None,
        }
    }

    fn held(board: &Board) -> usize {
        lock(&board.log).batches.len()
    }

    #[test]
    fn what_all_have_read_is_not_held() {
        let board = board();
        let reader = board.attend();
        assert!(matches!(told(&board, reader), Some(Update::Reset(_))));
        for revision in 1..5_000 {
            append(&board, revision);
            let Some(Update::Batch(batch)) = told(&board, reader) else { panic!("a batch") };
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
        assert!(told(&board, reader).is_some() && told(&board, stuck).is_some());
        let backlog = BACKLOG as u64;
        for revision in 1..=backlog {
            append(&board, revision);
            assert!(matches!(told(&board, reader), Some(Update::Batch(_))));
        }
        assert_eq!(held(&board), BACKLOG);
        for revision in backlog + 1..backlog * 3 {
            append(&board, revision);
            assert!(matches!(told(&board, reader), Some(Update::Batch(_))));
            assert!(held(&board) <= BACKLOG);
        }
        assert!(held(&board) <= 2 * FEW, "it gets the state now: {}", held(&board));
        assert!(matches!(told(&board, stuck), Some(Update::Reset(_))));
        assert!(told(&board, stuck).is_none());
    }
}
