//! The state that a balancer shares with its tickets.

use crate::ejection::{Admission, Ejection};
use crate::picker::Picker;
use crate::rng::mix;
use crate::stats::EndpointStats;
use crate::time::Ticks;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The state that a balancer shares with its tickets.
#[derive(Debug)]
pub(crate) struct Shared<K, T> {
    pub(crate) picker: ArcSwap<Picker<K, T>>,
    pub(crate) ejection: Option<Ejection>,
    /// Held while ejected endpoints are counted and another is ejected. Without it, two threads that
    /// count at the same time could each eject an endpoint where only one more may be ejected.
    ejecting: Mutex<()>,
    /// The state of the random numbers for jitter.
    jitter: AtomicU64,
}

impl<K, T> Shared<K, T> {
    pub(crate) fn new(ejection: Option<Ejection>, seed: u64) -> Self {
        let (picker, ejecting) = (ArcSwap::default(), Mutex::default());
        Self { picker, ejection, ejecting, jitter: seed.into() }
    }

    /// Ejects an endpoint after a failed call, if at least half of all endpoints then still take
    /// calls. Returns for how long.
    pub(crate) fn eject(
        &self,
        stats: &EndpointStats,
        failed: Admission,
        now: Ticks,
    ) -> Option<Duration> {
        let ejection = self.ejection.as_ref()?;
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.picker.load().may_eject(stats) {
            return stats.ejection.eject(ejection, self.jitter(), failed, now);
        }
        if failed.is_probe() {
            // The failure made it look slow, so it takes calls only if the others are worse. If it
            // stayed half-open, it would be preferred.
            stats.ejection.readmit(failed);
        }
        None
    }

    /// Returns a random factor from 0.8 to 1.2, so that clients probe an endpoint at different moments.
    fn jitter(&self) -> f64 {
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss)] // 53 bits
        let fraction = (mix(state) >> 11) as f64 / (1_u64 << 53) as f64;
        0.8 + 0.4 * fraction
    }
}
