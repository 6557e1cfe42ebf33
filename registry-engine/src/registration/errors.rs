//! Errors that the registration itself creates.

use registry_core::{Error, ErrorKind};
use std::time::Duration;

/// Returns the error for a withdrawal that was not acknowledged within `limit`.
pub(super) fn stop_timed_out(limit: Duration) -> Error {
    unavailable(format!(
        "the withdrawal was not acknowledged in time: the instance may stay listed until its ttl has passed, \
         timeout=`{limit:?}`"
    ))
}

/// Returns the error for a task that ended before its handle.
pub(super) fn task_ended() -> Error {
    let message = "the registration has ended: it was stopped, its runtime was shut down, or the store panicked";
    Error::new(ErrorKind::Closed, message)
}

pub(super) fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}
