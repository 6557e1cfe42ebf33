//! The stream of a watch, and the bounded channel that stores feed it by.

mod backlog;
mod queue;

pub use self::backlog::BacklogEnd;

use self::queue::{SendError, Sender, queue};
use crate::{Batch, Cursor, Error, ErrorKind, Lineage, Result};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// How many batches with changes a watch holds for a reader that does not read, however much progress is published.
///
/// One more ends the watch with `Unavailable`; the reader still gets those held, and can resume
/// after the last of them.
pub const WATCH_CAPACITY: usize = 1024;

/// The changes to one service after a cursor, in order and without a gap, up to the first error.
///
/// A stream of batches whose revisions strictly increase. After an error it has ended;
/// [`cursor`](Self::cursor) says where to resume. To drop it is to end it.
pub struct Watch {
    cursor: Cursor,
    lineage: Lineage,
    backlog_end: BacklogEnd,
    batches: Option<BoxStream<'static, Result<Arc<Batch>>>>,
    /// Dropped when the watch ends.
    guard: Option<Box<dyn Any + Send>>,
}

impl Watch {
    /// Wraps what a store has to say after `after`, and holds the store to the order law. It has no backlog unless
    /// [told](Self::with_backlog_end).
    pub fn new(
        after: Cursor,
        batches: impl Stream<Item = Result<Arc<Batch>>> + Send + 'static,
    ) -> Self {
        let (lineage, backlog_end) = (Lineage::default(), BacklogEnd::at(after.revision()));
        Self { cursor: after, lineage, backlog_end, batches: Some(batches.boxed()), guard: None }
    }

    /// Returns a watch of what `pass_on` makes of this one, with its cursor, its lineage and the end of its backlog.
    #[must_use]
    pub fn wrap<S>(self, pass_on: impl FnOnce(Self) -> S) -> Self
    where
        S: Stream<Item = Result<Arc<Batch>>> + Send + 'static,
    {
        let (after, lineage) = (self.cursor.clone(), self.lineage.clone());
        let backlog_end = self.backlog_end.clone();
        Self { lineage, backlog_end, ..Self::new(after, pass_on(self)) }
    }

    /// Sets the lineage of the store that the watch was opened on.
    #[must_use]
    pub fn with_lineage(self, lineage: Lineage) -> Self {
        Self { lineage, ..self }
    }

    /// Sets where the backlog ends.
    #[must_use]
    pub fn with_backlog_end(self, backlog_end: BacklogEnd) -> Self {
        Self { backlog_end, ..self }
    }

    /// Keeps `guard` until the watch has ended or is dropped, so that a store learns of it.
    #[must_use]
    pub fn with_guard(self, guard: impl Any + Send) -> Self {
        Self { guard: Some(Box::new(guard)), ..self }
    }

    /// A watch that first gives the `backlog`, then what is published. It holds at most
    /// [`WATCH_CAPACITY`] batches with changes that nobody reads, the backlog apart.
    pub fn channel(after: Cursor, backlog: Vec<Arc<Batch>>) -> (Publisher, Self) {
        let (batches, receiver) = queue(WATCH_CAPACITY);
        let last = backlog.last().map_or_else(|| after.revision(), |batch| batch.revision());
        let live = stream::poll_fn(move |cx| {
            let next = ready!(receiver.poll(cx));
            Poll::Ready(Some(next.map_err(|error| error.unwrap_or_else(ended))))
        });
        let watch = Self::new(after, stream::iter(backlog).map(Ok).chain(live));
        (Publisher(batches), watch.with_backlog_end(BacklogEnd::at(last)))
    }

    /// Where the reader stands: after the last batch taken.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Returns the lineage of the store when the watch was opened.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Returns whether the reader has taken all that the store had when the watch was opened.
    pub fn is_caught_up(&self) -> bool {
        self.backlog_end.is_reached(self.cursor.revision())
    }
}

impl Stream for Watch {
    type Item = Result<Arc<Batch>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(batches) = &mut self.batches else { return Poll::Ready(None) };
            let item = ready!(batches.poll_next_unpin(cx)).unwrap_or_else(|| Err(ended()));
            let item = match item {
                Ok(batch) if !batch.cursor.has_origin_of(&self.cursor) => {
                    Err(out_of_order(&self.cursor, &batch))
                }
                Ok(batch) if batch.revision() > self.cursor.revision() => Ok(batch),
                Ok(batch) if batch.is_progress() => continue, // it says nothing new
                Ok(batch) => Err(out_of_order(&self.cursor, &batch)),
                Err(error) => Err(error),
            };
            if let Ok(batch) = &item {
                self.cursor = batch.cursor.clone();
            } else {
                (self.batches, self.guard) = (None, None);
            }
            return Poll::Ready(Some(item));
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// The store's end of a [`Watch::channel`]. To drop it ends the watch with `Unavailable`.
#[derive(Debug)]
pub struct Publisher(Sender);

impl Publisher {
    /// Hands `batch` to the reader without waiting. `false` means that the watch is over, because
    /// nobody holds it any more or because it lagged: drop the publisher.
    ///
    /// What comes next replaces progress that is still unread: it never makes a watch lag.
    #[must_use]
    pub fn publish(&mut self, batch: impl Into<Arc<Batch>>) -> bool {
        match self.0.send(batch.into()) {
            Ok(()) => true,
            Err(SendError::Full) => {
                self.0.fail(lagged());
                false
            }
            Err(SendError::Closed) => false,
        }
    }

    /// Ends the watch with `error`, after what was published before.
    pub fn fail(self, error: Error) {
        self.0.fail(error);
    }

    /// Whether nobody holds the watch any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the watch was cut: watch again after its cursor")
}

fn lagged() -> Error {
    let message = format!(
        "the watch lagged: more than {WATCH_CAPACITY} batches were not read; read faster, and watch again after its cursor"
    );
    Error::new(ErrorKind::Unavailable, message)
}

fn out_of_order(last: &Cursor, next: &Batch) -> Error {
    let message =
        format!("the store broke the order of a watch, last=`{last}`, next=`{}`", next.cursor);
    Error::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Deleted, Origin, Revision};
    use futures_util::FutureExt;

    fn at(revision: u64) -> Cursor {
        Origin::new("mem", "", &"a".parse().unwrap()).cursor(Revision::new(revision), 0)
    }

    fn batch(revision: u64) -> Arc<Batch> {
        let deleted = Change::Delete(Deleted::new("1".parse().unwrap()));
        Arc::new(Batch::new(at(revision), vec![deleted]))
    }

    fn progress(revision: u64) -> Arc<Batch> {
        Arc::new(Batch::progress(at(revision)))
    }

    fn next(watch: &mut Watch) -> Option<Result<Arc<Batch>>> {
        watch.next().now_or_never().expect("the watch has something to say")
    }

    #[test]
    fn a_batch_out_of_order_is_an_error_and_old_progress_is_skipped() {
        let items = [batch(2), progress(2), progress(3), batch(3)].map(Ok);
        let mut watch = Watch::new(at(1), stream::iter(items));
        assert_eq!(next(&mut watch).unwrap().unwrap(), batch(2));
        assert_eq!(next(&mut watch).unwrap().unwrap(), progress(3));
        assert_eq!(next(&mut watch).unwrap().unwrap_err().kind(), ErrorKind::Internal);
        assert!(next(&mut watch).is_none());
        assert_eq!(watch.cursor(), &at(3));
    }

    #[test]
    fn a_watch_is_caught_up_once_its_backlog_is_read() {
        let (mut publisher, mut watch) = Watch::channel(at(1), vec![batch(2), batch(4)]);
        assert!(publisher.publish(batch(5)));
        for caught_up in [false, true, true] {
            assert!(next(&mut watch).unwrap().is_ok());
            assert_eq!(watch.is_caught_up(), caught_up, "{}", watch.cursor());
        }
        assert!(Watch::channel(at(1), Vec::new()).1.is_caught_up(), "without a backlog");
    }

    #[test]
    fn the_end_of_a_backlog_may_become_known_later() {
        let end = BacklogEnd::unknown();
        let (mut publisher, watch) = Watch::channel(at(1), Vec::new());
        let mut watch = watch.with_backlog_end(end.clone());
        assert!(publisher.publish(batch(2)));
        assert!(next(&mut watch).unwrap().is_ok());
        assert!(!watch.is_caught_up(), "more may come");
        end.set(Revision::new(3));
        assert!(publisher.publish(batch(3)));
        assert!(next(&mut watch).unwrap().is_ok());
        assert!(watch.is_caught_up());
    }

    #[test]
    fn a_batch_of_another_service_is_an_error() {
        let other = Origin::new("mem", "", &"b".parse().unwrap()).cursor(Revision::new(2), 0);
        let mut watch = Watch::new(at(1), stream::iter([Ok(Arc::new(Batch::progress(other)))]));
        assert_eq!(next(&mut watch).unwrap().unwrap_err().kind(), ErrorKind::Internal);
    }

    #[test]
    fn a_stream_that_ends_without_an_error_is_an_error() {
        let mut watch = Watch::new(at(1), stream::empty());
        assert_eq!(next(&mut watch).unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(next(&mut watch).is_none());
    }

    #[test]
    fn an_unread_watch_lags_after_its_capacity_and_loses_nothing_before() {
        let (mut publisher, mut watch) = Watch::channel(at(0), vec![batch(1)]);
        let capacity = WATCH_CAPACITY as u64;
        for n in 0..capacity {
            assert!(publisher.publish(batch(2 + n)));
        }
        assert!(publisher.publish(Batch::progress(at(9_999))), "progress is no lag");
        assert!(!publisher.publish(batch(2 + capacity)));
        drop(publisher);
        for n in 0..=capacity {
            assert_eq!(next(&mut watch).unwrap().unwrap(), batch(1 + n));
        }
        let error = next(&mut watch).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("lagged"));
        assert_eq!(watch.cursor(), &at(1 + capacity));
    }

    #[test]
    fn unread_progress_takes_the_place_of_no_change() {
        let (mut publisher, mut watch) = Watch::channel(at(0), Vec::new());
        let capacity = WATCH_CAPACITY as u64;
        for n in 0..2 * capacity {
            assert!(publisher.publish(Batch::progress(at(1 + n))));
        }
        for n in 1..=capacity {
            assert!(publisher.publish(batch(2 * capacity + n)));
        }
        assert!(!publisher.publish(batch(3 * capacity + 1)), "and one more is too many");
        drop(publisher);
        for n in 1..=capacity {
            assert_eq!(next(&mut watch).unwrap().unwrap(), batch(2 * capacity + n));
        }
        assert_eq!(next(&mut watch).unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn the_reader_gets_the_last_progress_and_all_changes_before_it() {
        let (mut publisher, mut watch) = Watch::channel(at(0), Vec::new());
        assert!(publisher.publish(batch(1)) && publisher.publish(Batch::progress(at(2))));
        assert!(publisher.publish(Batch::progress(at(9))));
        assert_eq!(next(&mut watch).unwrap().unwrap(), batch(1));
        assert_eq!(next(&mut watch).unwrap().unwrap(), progress(9));
    }

    #[test]
    fn a_publisher_learns_that_the_watch_was_dropped() {
        let (mut publisher, watch) = Watch::channel(at(0), Vec::new());
        drop(watch);
        assert!(publisher.is_closed());
        assert!(!publisher.publish(batch(1)));
    }

    #[test]
    fn a_guard_is_dropped_when_the_watch_ends() {
        let held = Arc::new(());
        let (publisher, watch) = Watch::channel(at(0), Vec::new());
        let mut watch = watch.with_guard(held.clone());
        assert_eq!(Arc::strong_count(&held), 2);
        drop(publisher);
        assert!(next(&mut watch).unwrap().is_err());
        assert_eq!(Arc::strong_count(&held), 1, "it has ended");
        let watch = Watch::new(at(0), stream::empty()).with_guard(held.clone());
        drop(watch);
        assert_eq!(Arc::strong_count(&held), 1, "it was dropped");
    }

    #[test]
    fn a_publisher_ends_a_watch_with_an_error() {
        let (publisher, mut watch) = Watch::channel(at(0), Vec::new());
        publisher.fail(Error::new(ErrorKind::Compacted, "gone"));
        assert_eq!(next(&mut watch).unwrap().unwrap_err().kind(), ErrorKind::Compacted);
        assert!(next(&mut watch).is_none());
    }
}
