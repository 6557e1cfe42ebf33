//! The time for which a call waits for an endpoint.

use crate::clock::after;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// The time for which a call waits for an endpoint.
#[derive(Clone, Copy)]
pub(crate) struct Wait {
    pub(crate) until: Instant,
    /// The deadline of the call itself, if it has one.
    pub(crate) deadline: Option<Instant>,
}

impl Wait {
    /// A wait of at most `wait` that starts at `begun` and ends no later than the call's timeout `limit`.
    pub(crate) fn new(begun: Instant, limit: Option<Duration>, wait: Duration) -> Self {
        let deadline = limit.map(|limit| after(begun, limit));
        let until = after(begun, wait);
        Self { until: deadline.map_or(until, |deadline| deadline.min(until)), deadline }
    }

    /// Returns the status of a call whose wait has expired.
    pub(crate) fn status(&self, reason: &str) -> Status {
        match self.deadline {
            Some(deadline) if deadline <= self.until => Status::deadline_exceeded(reason),
            _ => Status::unavailable(reason),
        }
    }
}
