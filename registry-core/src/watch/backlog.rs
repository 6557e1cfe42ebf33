//! The end of the backlog of a watch.

use crate::Revision;
use std::sync::{Arc, OnceLock};

/// The end of the backlog of a [`Watch`](super::Watch): the last change that the store had when the watch was opened.
///
/// Clones share it. A store that learns the end only while it sends the backlog opens the watch with an
/// [unknown](Self::unknown) end, and [sets](Self::set) it before it sends the last change.
#[derive(Clone, Debug, Default)]
pub struct BacklogEnd(Arc<OnceLock<Revision>>);

impl BacklogEnd {
    /// Returns an end that is not known yet.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// Returns an end at the batch of this revision.
    pub fn at(revision: Revision) -> Self {
        let end = Self::unknown();
        end.set(revision);
        end
    }

    /// Sets the end. Only the first call has an effect.
    pub fn set(&self, revision: Revision) {
        let _ = self.0.set(revision);
    }

    /// Returns whether a reader at `revision` has read the whole backlog.
    pub(super) fn is_reached(&self, revision: Revision) -> bool {
        self.0.get().is_some_and(|end| revision >= *end)
    }
}
