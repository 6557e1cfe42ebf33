//! The errors of a registration that no store returned.

use registry_core::{Error, ErrorKind};
use std::time::Duration;

/// The error of a withdrawal that was not acknowledged within `limit`.
pub(super) fn stop_timed_out(limit: Duration) -> Error {
    unavailable(format!(
        "the withdrawal was not acknowledged: the instance may be listed until its ttl has passed, timeout=`{limit:?}`"
    ))
}

/// The task has ended before its handle.
pub(super) fn task_ended() -> Error {
    let message = "the registration has ended: it was stopped, its runtime was shut down, or the store panicked";
    Error::new(ErrorKind::Closed, message)
}

pub(super) fn unavailable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}
