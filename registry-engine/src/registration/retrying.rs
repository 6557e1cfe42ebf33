//! How many registrations have to retry: the more there are, the less often each does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::runtime::{Handle, Id};

/// Whether a registration counts among those of its runtime that have to retry their last request.
pub(super) struct RetryingCount {
    total: Arc<AtomicU32>,
    is_counted: bool,
}

impl RetryingCount {
    /// Returns the count of the caller's runtime. As a rule a process has one; tests have one each.
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
