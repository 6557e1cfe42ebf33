//! Which failures of one registration or view were logged: each kind is logged once, until it succeeds again.

use registry_core::ErrorKind;

/// The kinds of errors that were logged since the last success.
#[derive(Debug, Default)]
pub(crate) struct LoggedFailures(Vec<ErrorKind>);

impl LoggedFailures {
    /// Records an error. Returns whether it is the first of its kind, and more than a loss of history.
    pub(crate) fn insert(&mut self, kind: ErrorKind) -> bool {
        let is_lost_history = matches!(kind, ErrorKind::Compacted | ErrorKind::Diverged);
        let is_new = !is_lost_history && !self.0.contains(&kind);
        if is_new {
            self.0.push(kind);
        }
        is_new
    }

    /// It has succeeded: the next failure is news.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
