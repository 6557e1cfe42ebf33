//! How long to wait before the next try.

use registry_core::MAX_TTL;
use std::time::Duration;

/// Exponential backoff with full jitter: after the nth failure in a row, anything from nothing to
/// `base * 2^(n-1)`, at most `max`.
///
/// Full jitter spreads the clients of a store that comes back evenly, where half of it would let them
/// come in waves (figures: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// A backoff between `base` and `max`, each at least a millisecond and at most a day.
    ///
    /// A `base` below the round trip of the store makes the first tries useless; a `max` above the ttl
    /// keeps an instance away, or a view stale, for longer than the outage took.
    pub fn new(base: Duration, max: Duration) -> Self {
        let base = base.clamp(Duration::from_millis(1), MAX_TTL);
        Self { base, max: max.clamp(base, MAX_TTL) }
    }

    /// The longest wait.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Returns a backoff whose longest wait is at most `max`.
    pub(crate) fn capped(self, max: Duration) -> Self {
        Self::new(self.base.min(max), self.max.min(max))
    }

    /// The longest wait after so many `failures` in a row.
    pub(crate) fn ceiling(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.base.saturating_mul(doubled).min(self.max)
    }

    /// How long to wait after so many `failures` in a row: drawn anew each time.
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_at(failures, fastrand::f64())
    }

    /// Returns the delay for `random`, which is at least 0 and less than 1.
    pub(crate) fn delay_at(&self, failures: u32, random: f64) -> Duration {
        self.ceiling(failures).mul_f64(random)
    }
}

/// 100 ms, doubled up to 5 s: a store that comes back is found within 5 s, half of that on average.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_drawn_from_nothing_to_a_ceiling_that_doubles_up_to_the_max() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (failures, ceiling) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (u32::MAX, 1_000)] {
            let ceiling = Duration::from_millis(ceiling);
            let drawn: Vec<Duration> = (0..1_000).map(|_| backoff.delay(failures)).collect();
            assert!(drawn.iter().all(|delay| *delay <= ceiling));
            assert!(drawn.iter().any(|delay| *delay < ceiling / 5), "all of the range is used");
            assert!(drawn.iter().any(|delay| *delay > ceiling * 4 / 5), "all of the range is used");
        }
    }

    #[test]
    fn no_backoff_is_a_hot_loop() {
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!((0..100).any(|_| backoff.delay(9) > Duration::ZERO));
    }

    #[test]
    fn no_backoff_is_for_ever() {
        assert!(Backoff::new(Duration::MAX, Duration::MAX).delay(u32::MAX) <= MAX_TTL);
    }
}
