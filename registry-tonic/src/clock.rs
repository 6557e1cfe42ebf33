//! Time, as loads and ejections count it.

use std::time::Duration;
use tokio::time::Instant;

/// Ticks of 100 us since a channel was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(u64);

impl Ticks {
    /// The time now, for a channel made at `start`.
    pub(crate) fn since(start: Instant) -> Self {
        Self::of(Instant::now().saturating_duration_since(start))
    }

    /// So long after the start.
    pub(crate) fn of(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_micros() / 100).unwrap_or(u64::MAX))
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

/// So long from now; where that is beyond what can be counted, long enough.
pub(crate) fn in_time(duration: Duration) -> Instant {
    const LONG: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(duration).unwrap_or_else(|| now + LONG)
}
