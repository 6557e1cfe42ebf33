//! Batches: the changes of a service, revision by revision.

use crate::{Change, Cursor, Revision};

/// All changes that one revision made to a service.
///
/// They belong together: `etcdctl del --prefix` deletes two instances at one revision, and a reader
/// that stopped between them would lose one when it resumes. Within a batch no id comes twice and
/// order means nothing. A batch without changes is progress: it moves the cursor past changes that
/// were not of this service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// Where to resume once the changes are taken in.
    pub cursor: Cursor,
    /// The changes.
    pub changes: Vec<Change>,
}

impl Batch {
    /// The `changes` that lead to `cursor`.
    pub fn new(cursor: Cursor, changes: Vec<Change>) -> Self {
        Self { cursor, changes }
    }

    /// Progress up to `cursor`.
    pub fn progress(cursor: Cursor) -> Self {
        Self::new(cursor, Vec::new())
    }

    /// The revision that made the changes.
    pub fn revision(&self) -> Revision {
        self.cursor.revision()
    }

    /// Whether it changes nothing but the cursor.
    pub fn is_progress(&self) -> bool {
        self.changes.is_empty()
    }
}
