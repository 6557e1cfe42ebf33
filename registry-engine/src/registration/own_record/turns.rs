//! How many watches of own records are opened at a time.
//!
//! When a store comes back, all of them are opened again. If it were asked for more than it opens within the time limit of
//! a request, it would work on requests that were given up and are repeated: none would ever open. So each waits for its
//! turn before its time limit begins.

use registry_core::Registry;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many at a time. An etcd on one core opens some 3,000 a second.
const AT_A_TIME: usize = 256;

/// A runtime, and the address of a registry.
type Key = (Id, usize);

/// The turns of one registry, in one runtime: another may stand still.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Turns {
    /// Returns those of the caller's runtime.
    pub(super) fn of(registry: &Arc<dyn Registry>) -> Self {
        static ALL: LazyLock<Mutex<HashMap<Key, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);
        let key = (Handle::current().id(), Arc::as_ptr(registry).cast::<()>() as usize);
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(&key).and_then(Weak::upgrade) {
            return Self(found);
        }
        all.retain(|_, turns| turns.strong_count() > 0);
        let new = Arc::new(Semaphore::new(AT_A_TIME));
        all.insert(key, Arc::downgrade(&new));
        Self(new)
    }

    /// Waits for a turn, which ends when what it returns is dropped.
    pub(super) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok() // it is never closed
    }
}
