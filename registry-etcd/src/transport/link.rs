//! The observed state of a channel's connection.

use super::problem::Problem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// When bytes were last received, and what is wrong with the server.
#[derive(Debug)]
pub(crate) struct Link {
    start: Instant,
    /// When any byte was last received, in milliseconds since `start`.
    last_activity_ms: AtomicU64,
    received_bytes: AtomicU64,
    problem: Mutex<Option<Problem>>,
}

impl Link {
    pub(crate) fn new() -> Self {
        let (last_activity_ms, received_bytes) = Default::default();
        Self { start: Instant::now(), last_activity_ms, received_bytes, problem: Mutex::default() }
    }

    /// Records received bytes. Partial responses and acknowledged pings count, too.
    pub(super) fn record_received(&self, bytes: usize) {
        let age = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_activity_ms.store(age, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the bytes received on all connections of the channel.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn last_activity(&self) -> Instant {
        self.start + Duration::from_millis(self.last_activity_ms.load(Ordering::Relaxed))
    }

    /// Returns what is wrong with the server, if the last connection revealed it.
    pub(crate) fn problem(&self) -> Option<Problem> {
        self.lock().clone()
    }

    pub(super) fn set_problem(&self, problem: Problem) {
        *self.lock() = Some(problem);
    }

    pub(super) fn clear_problem(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Problem>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
