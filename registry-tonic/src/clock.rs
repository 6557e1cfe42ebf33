//! Time, as loads and ejections count it.

use std::time::Duration;
use tokio::time::Instant;

/// Ticks of 100 us since a channel was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(u64);

impl Ticks {
    /// So long after the start.
    pub(crate) fn of(elapsed: Duration) -> Self {
        // Without the 128 bits that Duration would count in.
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

    /// In milliseconds, without what does not fit: seven weeks.
    #[allow(clippy::cast_possible_truncation)] // it wraps, and is compared by difference
    pub(crate) fn millis(self) -> u32 {
        (self.0 / 10) as u32
    }
}

/// So long after `begun`; where that is beyond what can be counted, long enough.
pub(crate) fn after(begun: Instant, duration: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    begun.checked_add(duration).unwrap_or_else(|| begun + LONG)
}
