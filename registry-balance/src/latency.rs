//! The latency estimate of an endpoint, a peak EWMA: a slower call raises it at once, faster calls
//! lower it gradually.

use crate::time::Ticks;
use std::time::Duration;

/// The time constant: an estimate of this age counts for 1/e. go-zero (`decayTime` of its balancer
/// `p2c_ewma`) and Linkerd use the same value.
const DECAY: Duration = Duration::from_secs(10);

/// The age in seconds after which the next call replaces an estimate. go-zero uses the same value
/// (`forcePick`).
pub(crate) const MAX_AGE: f32 = 1.0;

/// The latency in microseconds that is assumed while no endpoint has been measured. With a higher value, the first
/// fast endpoint that is measured would take all calls of the first second.
const FIRST_GUESS: f32 = 1.0;

/// The maximum estimate, in microseconds.
pub(crate) const MAX_LATENCY: f32 = 60e6;

/// A latency, and the time at which it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// Negative for an initial guess, which the first call replaces.
    micros: f32,
    /// The time of the measurement in milliseconds, which wraps around.
    at: u32,
}

impl Estimate {
    pub(crate) fn guess(expected: Option<f32>, now: Ticks) -> Self {
        let micros = -expected.unwrap_or(FIRST_GUESS).clamp(1.0, MAX_LATENCY);
        Self { micros, at: now.millis() }
    }

    pub(crate) fn measured(micros: f32, now: Ticks) -> Self {
        Self { micros, at: now.millis() }
    }

    pub(crate) fn is_guess(self) -> bool {
        self.micros <= 0.0
    }

    /// Returns the measured microseconds, without decay: negative for a guess.
    #[inline]
    pub(crate) fn micros(self) -> f32 {
        self.micros
    }

    /// Returns the microseconds expected at `now`. The estimate decays, since an endpoint that was slow
    /// may have become faster without a call that shows it.
    #[inline]
    pub(crate) fn decayed(self, now: Ticks) -> f32 {
        self.micros.abs() * self.decay(now)
    }

    /// Returns the estimate after a call that took `micros`.
    #[inline]
    pub(crate) fn with(self, micros: f32, now: Ticks) -> Self {
        if self.is_guess() || micros >= self.micros || self.age(now) >= MAX_AGE {
            return Self::measured(micros, now);
        }
        let decay = self.decay(now);
        Self::measured(self.micros * decay + micros * (1.0 - decay), now)
    }

    /// Returns the estimate after a call that took at least `micros`.
    pub(crate) fn raised(self, micros: f32, now: Ticks) -> Self {
        let micros = micros.min(MAX_LATENCY);
        if micros <= self.decayed(now) { self } else { Self::measured(micros, now) }
    }

    /// Returns how many seconds ago it was measured.
    #[inline]
    pub(crate) fn age(self, now: Ticks) -> f32 {
        /// The clock of another thread may be ahead by up to this many milliseconds.
        const AHEAD: u32 = 60_000;
        let millis = now.millis().wrapping_sub(self.at);
        #[allow(clippy::cast_precision_loss)] // a millisecond in hours makes no difference
        if millis > u32::MAX - AHEAD { 0.0 } else { millis as f32 / 1e3 }
    }

    /// Returns the factor by which the estimate has decayed at `now`.
    #[inline]
    fn decay(self, now: Ticks) -> f32 {
        // Approximates `exp` to 2 % up to three times DECAY, in a third of the instructions. Later the
        // estimate is too small to matter.
        (1.0 - self.age(now) / (DECAY.as_secs_f32() * 256.0)).max(0.0).powi(256)
    }

    #[inline]
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at)
    }

    #[allow(clippy::cast_possible_truncation)] // the halves
    #[inline]
    pub(crate) fn unpack(packed: u64) -> Self {
        Self { micros: f32::from_bits((packed >> 32) as u32), at: packed as u32 }
    }
}

/// Returns the microseconds of a call, within the limits of an estimate.
pub(crate) fn micros(elapsed: Duration) -> f32 {
    (elapsed.as_secs_f32() * 1e6).clamp(1.0, MAX_LATENCY)
}
