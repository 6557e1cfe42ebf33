//! A countdown latch that notes when the last has counted down.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Waits for many tasks to receive an event, and notes when the last one did. Shared by all tasks.
#[derive(Debug, Default)]
pub struct CountdownLatch {
    left: AtomicUsize,
    last: Mutex<Option<Instant>>,
    all: Notify,
}

impl CountdownLatch {
    /// Starts again: so many are to count down.
    pub fn reset(&self, many: usize) {
        self.left.store(many, Ordering::SeqCst);
    }

    /// Counts one down.
    pub fn count_down(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.all.notify_one();
        }
    }

    /// Waits until all have counted down. Returns when the last did.
    pub async fn wait(&self) -> Result<Instant> {
        self.all.notified().await;
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.context("the latch was not counted down")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use registry_testkit::lag::timeout;
    use std::time::Duration;

    #[tokio::test]
    async fn wait_returns_when_the_last_has_counted_down() {
        let latch = CountdownLatch::default();
        for _ in 0..2 {
            latch.reset(2);
            latch.count_down();
            assert!(latch.wait().now_or_never().is_none());
            let before = Instant::now();
            latch.count_down();
            let last = timeout(Duration::from_secs(1), latch.wait()).await.unwrap().unwrap();
            assert!(before <= last);
        }
    }
}
