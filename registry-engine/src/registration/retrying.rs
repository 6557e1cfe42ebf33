//! The number of registrations that retry. The more there are, the longer each waits between attempts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::runtime::{Handle, Id};

/// The share of one registration in the number of registrations of its runtime that retry.
pub(super) struct RetryingCount {
    total: Arc<AtomicU32>,
    is_counted: bool,
}

impl RetryingCount {
    /// Returns an uncounted share for the caller's runtime. Most processes have one runtime; each test has its own.
    pub(super) fn of_this_runtime() -> Self {
        static ALL: LazyLock<Mutex<HashMap<Id, Arc<AtomicU32>>>> = LazyLock::new(Mutex::default);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Handle::current().id();
        if !all.contains_key(&id) {
            all.retain(|_, total| Arc::strong_count(total) > 1);
        }
        Self { total: all.entry(id).or_default().clone(), is_counted: false }
    }

    pub(super) fn total(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    pub(super) fn set(&mut self, retrying: bool) {
        if retrying && !self.is_counted {
            self.total.fetch_add(1, Ordering::Relaxed);
        } else if self.is_counted && !retrying {
            self.total.fetch_sub(1, Ordering::Relaxed);
        }
        self.is_counted = retrying;
    }
}

impl Drop for RetryingCount {
    fn drop(&mut self) {
        self.set(false);
    }
}
