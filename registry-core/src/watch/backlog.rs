//! Where the backlog of a watch ends.

use crate::Revision;
use std::sync::{Arc, OnceLock};

/// Where the backlog of a [`Watch`](super::Watch) ends: at the last change that the store had when the watch was opened.
///
/// A clone shares it. A store that learns the end only while it sends the backlog opens the watch with an
/// [unknown](Self::unknown) end, and [sets](Self::set) it before it sends the last change.
#[derive(Clone, Debug, Default)]
pub struct BacklogEnd(Arc<OnceLock<Revision>>);

impl BacklogEnd {
    /// An end that is not known yet.
    pub fn unknown() -> Self {
        Self::default()
    }

    /// The backlog ends with the batch of this revision.
    pub fn at(revision: Revision) -> Self {
        let end = Self::unknown();
        end.set(revision);
        end
    }

    /// Sets the end. It is set once: later calls change nothing.
    pub fn set(&self, revision: Revision) {
        let _ = self.0.set(revision);
    }

    /// Whether a reader that has come up to `revision` has read the backlog.
    pub(super) fn is_reached(&self, revision: Revision) -> bool {
        self.0.get().is_some_and(|end| revision >= *end)
    }
}
