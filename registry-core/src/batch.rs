//! Batches: the changes of one revision to a service.

use crate::{Change, Cursor, Revision};

/// All changes that one revision made to a service.
///
/// A batch is atomic: `etcdctl del --prefix` deletes several instances at one revision, and a reader that resumed
/// between them would lose some. Each id occurs at most once in a batch, and the order of changes has no meaning. A
/// batch without changes is progress: it moves the cursor past changes to other services.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The cursor to resume from once the changes are applied.
    pub cursor: Cursor,
    /// The changes.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Returns a batch of `changes` that lead to `cursor`.
    pub fn new(cursor: Cursor, changes: Vec<Change>) -> Self {
        Self { cursor, changes }
    }

    /// Returns a batch that reports progress up to `cursor`.
    pub fn progress(cursor: Cursor) -> Self {
        Self::new(cursor, Vec::new())
    }

    /// Returns the revision that made the changes.
    pub fn revision(&self) -> Revision {
        self.cursor.revision()
    }

    /// Returns whether the batch has no changes and only moves the cursor.
    pub fn is_progress(&self) -> bool {
        self.changes.is_empty()
    }
}
