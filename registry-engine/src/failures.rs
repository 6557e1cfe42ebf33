//! Deduplication of logged failures: each kind of error is logged once until the next success.

use registry_core::ErrorKind;

/// The kinds of errors that were logged since the last success.
#[derive(Debug, Default)]
pub(crate) struct LoggedFailures(Vec<ErrorKind>);

impl LoggedFailures {
    /// Records an error, except a loss of history. Returns true for the first of its kind, which is to be logged.
    pub(crate) fn insert(&mut self, kind: ErrorKind) -> bool {
        let is_lost_history = matches!(kind, ErrorKind::Compacted | ErrorKind::Diverged);
        let is_new = !is_lost_history && !self.0.contains(&kind);
        if is_new {
            self.0.push(kind);
        }
        is_new
    }

    /// Forgets all errors after a success.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
