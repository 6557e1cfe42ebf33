//! The changes of a service as a stream, for those who follow each.

use super::board::Board;
use super::view::View;
use futures_util::Stream;
use registry_core::{Batch, Snapshot};
use std::fmt;
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
pub struct Updates {
    board: Arc<Board>,
    /// By which the board knows this reader.
    reader: usize,
    /// What keeps the watch open.
    view: View,
}

impl Updates {
    pub(crate) fn new(view: View, board: &Arc<Board>) -> Self {
        Self { board: board.clone(), reader: board.attend(), view }
    }
}

impl Stream for Updates {
    type Item = Update;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Update>> {
        self.board.poll_next(self.reader, cx).map(Some)
    }
}

impl Drop for Updates {
    fn drop(&mut self) {
        self.board.leave(self.reader);
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Updates").field("view", &self.view).finish_non_exhaustive()
    }
}
