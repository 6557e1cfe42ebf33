//! What a balancer shares with its tickets.

use crate::ejection::{Admission, Ejection};
use crate::picker::Picker;
use crate::rng::mix;
use crate::stats::EndpointStats;
use crate::time::Ticks;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a balancer shares with its tickets.
#[derive(Debug)]
pub(crate) struct Shared<K, T> {
    pub(crate) picker: ArcSwap<Picker<K, T>>,
    pub(crate) ejection: Option<Ejection>,
    /// Held from the count of ejected endpoints to the next ejection. Without it two threads that
    /// count at the same time eject one endpoint each, where only one more may be ejected.
    ejecting: Mutex<()>,
    /// The state of the random numbers for jitter.
    jitter: AtomicU64,
}

impl<K, T> Shared<K, T> {
    pub(crate) fn new(ejection: Option<Ejection>, seed: u64) -> Self {
        let (picker, ejecting) = (ArcSwap::default(), Mutex::default());
        Self { picker, ejection, ejecting, jitter: seed.into() }
    }

    /// Ejects an endpoint whose call has `failed`, if at least half of all endpoints then still
    /// take calls. Returns for how long.
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
            // It looks slow now, so it takes calls only when the others are worse. Half-open it
            // would come first.
            stats.ejection.readmit(failed);
        }
        None
    }

    /// Returns a factor of 0.8 to 1.2, so that clients do not all probe an endpoint at the same
    /// moment.
    fn jitter(&self) -> f64 {
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss)] // 53 bits
        let fraction = (mix(state) >> 11) as f64 / (1_u64 << 53) as f64;
        0.8 + 0.4 * fraction
    }
}
