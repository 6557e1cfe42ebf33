//! Time in the resolution of the statistics.

use std::time::Duration;

/// Ticks of 100 us since the origin of the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(u64);

impl Ticks {
    #[inline]
    pub(crate) fn of(elapsed: Duration) -> Self {
        // `Duration::as_micros` would compute with 128 bits.
        Self(elapsed.as_secs().saturating_mul(10_000) + u64::from(elapsed.subsec_micros() / 100))
    }

    pub(crate) fn new(ticks: u64) -> Self {
        Self(ticks)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::of(duration).0))
    }

    /// Returns the time in milliseconds. It wraps around after seven weeks.
    #[allow(clippy::cast_possible_truncation)] // it wraps, and is compared by difference
    #[inline]
    pub(crate) fn millis(self) -> u32 {
        (self.0 / 10) as u32
    }
}
