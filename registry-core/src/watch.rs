//! The stream of a watch, and the bounded channel that stores feed it through.

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

/// The number of unread batches with changes that a watch buffers. Progress batches do not count.
///
/// One more batch ends the watch with `Unavailable`. The reader still receives the buffered batches and can resume
/// after the last of them.
pub const WATCH_CAPACITY: usize = 1024;

/// A stream of all changes to one service after a cursor, in order and without gaps.
///
/// It yields batches with strictly increasing revisions, and ends after its first error; [`cursor`](Self::cursor) is
/// the position to resume from. Dropping the watch ends it.
pub struct Watch {
    cursor: Cursor,
    lineage: Lineage,
    backlog_end: BacklogEnd,
    batches: Option<BoxStream<'static, Result<Arc<Batch>>>>,
    /// Dropped when the watch ends.
    guard: Option<Box<dyn Any + Send>>,
}

impl Watch {
    /// Wraps the batches of a store after `after`. The watch ends with `Internal` if the store violates the law
    /// "Order". It has no backlog unless [set](Self::with_backlog_end).
    pub fn new(
        after: Cursor,
        batches: impl Stream<Item = Result<Arc<Batch>>> + Send + 'static,
    ) -> Self {
        let (lineage, backlog_end) = (Lineage::default(), BacklogEnd::at(after.revision()));
        Self { cursor: after, lineage, backlog_end, batches: Some(batches.boxed()), guard: None }
    }

    /// Returns a watch over the stream that `pass_on` returns for this watch. It keeps the cursor, the lineage and the
    /// end of the backlog.
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

    /// Sets the end of the backlog.
    #[must_use]
    pub fn with_backlog_end(self, backlog_end: BacklogEnd) -> Self {
        Self { backlog_end, ..self }
    }

    /// Drops `guard` when the watch ends or is dropped, so that a store can release its resources.
    #[must_use]
    pub fn with_guard(self, guard: impl Any + Send) -> Self {
        Self { guard: Some(Box::new(guard)), ..self }
    }

    /// Returns a watch that yields the `backlog` and then all published batches. Apart from the backlog, it buffers at
    /// most [`WATCH_CAPACITY`] unread batches with changes.
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

    /// Returns the cursor of the last batch that was read.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Returns the lineage of the store when the watch was opened.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Returns whether the reader has received all changes that the store had when the watch was opened.
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
                Ok(batch) if batch.is_progress() => continue, // progress that is already known
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

/// The store's end of a [`Watch::channel`]. Dropping it ends the watch with `Unavailable`.
#[derive(Debug)]
pub struct Publisher(Sender);

impl Publisher {
    /// Sends `batch` to the reader without waiting. Returns `false` if the watch is over, because it was dropped or
    /// lagged: drop the publisher then.
    ///
    /// A new batch replaces unread progress, so progress never makes a watch lag.
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

    /// Ends the watch with `error`, after all batches that were published before.
    pub fn fail(self, error: Error) {
        self.0.fail(error);
    }

    /// Returns whether the watch was dropped.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the watch was cut: watch again after its cursor")
}

fn lagged() -> Error {
    let message = format!(
        "the watch lagged by more than {WATCH_CAPACITY} unread batches: read faster, and watch again after its cursor"
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
        watch.next().now_or_never().expect("the watch yields an item")
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
        assert!(!watch.is_caught_up(), "the end of the backlog is unknown");
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
    fn an_unread_watch_ends_beyond_its_capacity_and_keeps_the_buffered_batches() {
        let (mut publisher, mut watch) = Watch::channel(at(0), vec![batch(1)]);
        let capacity = WATCH_CAPACITY as u64;
        for n in 0..capacity {
            assert!(publisher.publish(batch(2 + n)));
        }
        assert!(publisher.publish(Batch::progress(at(9_999))), "progress does not count");
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
    fn unread_progress_takes_no_capacity_from_changes() {
        let (mut publisher, mut watch) = Watch::channel(at(0), Vec::new());
        let capacity = WATCH_CAPACITY as u64;
        for n in 0..2 * capacity {
            assert!(publisher.publish(Batch::progress(at(1 + n))));
        }
        for n in 1..=capacity {
            assert!(publisher.publish(batch(2 * capacity + n)));
        }
        assert!(!publisher.publish(batch(3 * capacity + 1)), "one more exceeds the capacity");
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
    fn a_publisher_detects_that_the_watch_was_dropped() {
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
        assert_eq!(Arc::strong_count(&held), 1, "the watch has ended");
        let watch = Watch::new(at(0), stream::empty()).with_guard(held.clone());
        drop(watch);
        assert_eq!(Arc::strong_count(&held), 1, "the watch was dropped");
    }

    #[test]
    fn a_publisher_ends_a_watch_with_an_error() {
        let (publisher, mut watch) = Watch::channel(at(0), Vec::new());
        publisher.fail(Error::new(ErrorKind::Compacted, "gone"));
        assert_eq!(next(&mut watch).unwrap().unwrap_err().kind(), ErrorKind::Compacted);
        assert!(next(&mut watch).is_none());
    }
}
