//! One event, and many who wait for it.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Counts who has the event, and notes when the last had it. Shared by who waits and all they wait for.
#[derive(Debug, Default)]
pub struct Arrivals {
    left: AtomicUsize,
    last: Mutex<Option<Instant>>,
    all: Notify,
}

impl Arrivals {
    /// Begins anew: so many are to arrive.
    pub fn expect(&self, many: usize) {
        self.left.store(many, Ordering::SeqCst);
    }

    /// One has arrived.
    pub fn one(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            self.all.notify_one();
        }
    }

    /// Waits until all have arrived, and says when the last did.
    pub async fn all(&self) -> Result<Instant> {
        self.all.notified().await;
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.context("nobody came")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn it_is_the_last_that_counts() {
        let arrivals = Arrivals::default();
        for _ in 0..2 {
            arrivals.expect(2);
            arrivals.one();
            assert!(arrivals.all().now_or_never().is_none());
            let before = Instant::now();
            arrivals.one();
            let last = timeout(Duration::from_secs(1), arrivals.all()).await.unwrap().unwrap();
            assert!(before <= last);
        }
    }
}
