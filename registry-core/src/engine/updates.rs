//! The changes of a service as a stream, for those who follow each.

use super::board::{Board, Listener, News};
use super::view::View;
use crate::{Batch, Snapshot};
use futures_util::Stream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What a store said of a service: the bare truth, whatever the view retains or read from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // to skip a kind is to diverge
pub enum Update {
    /// Forget all that came before: this is the service now. The first item is one.
    Reset(Snapshot),
    /// One revision further.
    Batch(Arc<Batch>),
}

/// The updates of a service, from its state at the first poll on.
///
/// Every batch is given, in order, to who reads in time. Who falls more than 1024 batches behind gets
/// the state instead, as a [`Reset`](Update::Reset), and goes on from there. The stream has no end; in
/// an outage it says nothing.
#[derive(Debug)]
pub struct Updates {
    /// What keeps the watch open.
    _view: View,
    listener: Listener,
    /// By which the board knows this reader.
    reader: usize,
}

impl Updates {
    pub(crate) fn new(view: View, board: &Arc<Board>) -> Self {
        Self { _view: view, listener: board.listen(), reader: board.attend() }
    }

    fn news(&self) -> Option<Update> {
        let news = self.listener.board().news(self.reader)?;
        Some(match news {
            News::State(truth) => Update::Reset(truth),
            News::Batch(batch) => Update::Batch(batch),
        })
    }
}

impl Stream for Updates {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        if let Some(update) = self.news() {
            return Poll::Ready(Some(update));
        }
        self.listener.register(cx);
        self.news().map_or(Poll::Pending, |update| Poll::Ready(Some(update)))
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.listener.board().leave(self.reader);
    }
}
