//! A countdown latch that records the time of the last countdown.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Waits until many tasks have received an event, and records when the last one did.
#[derive(Debug, Default)]
pub struct CountdownLatch {
    count: AtomicUsize,
    last: Mutex<Option<Instant>>,
    all: Notify,
}

impl CountdownLatch {
    pub fn reset(&self, many: usize) {
        self.count.store(many, Ordering::SeqCst);
    }

    pub fn count_down(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.all.notify_one();
        }
    }

    /// Waits until the count is zero, and returns when that happened.
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
    async fn wait_returns_at_the_last_countdown() {
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
