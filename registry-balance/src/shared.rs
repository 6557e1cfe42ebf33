//! What a balancer shares with its tickets.

use crate::ejection::Ejection;
use crate::picker::Picker;
use crate::rng::mix;
use crate::time::Ticks;
use arc_swap::ArcSwap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a balancer shares with its tickets.
#[derive(Debug)]
pub(crate) struct Shared<K, T> {
    pub(crate) picker: ArcSwap<Picker<K, T>>,
    pub(crate) ejection: Option<Ejection>,
    /// The state of the random numbers for jitter.
    jitter: AtomicU64,
}

impl<K, T> Shared<K, T> {
    pub(crate) fn new(ejection: Option<Ejection>, seed: u64) -> Self {
        Self { picker: ArcSwap::default(), ejection, jitter: seed.into() }
    }

    /// Returns whether one more endpoint may be ejected.
    pub(crate) fn may_eject(&self, now: Ticks) -> bool {
        self.picker.load().may_eject(now)
    }

    /// Returns a factor of 0.8 to 1.2, so that clients do not all probe an endpoint at the same
    /// moment.
    pub(crate) fn jitter(&self) -> f64 {
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss)] // 53 bits
        let fraction = (mix(state) >> 11) as f64 / (1_u64 << 53) as f64;
        0.8 + 0.4 * fraction
    }
}
