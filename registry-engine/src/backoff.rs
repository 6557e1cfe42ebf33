//! The delay between attempts.

use registry_core::MAX_TTL;
use std::time::Duration;

/// Exponential backoff with full jitter: after the nth consecutive failure, a random delay between 0 and
/// `base * 2^(n-1)`, at most `max`.
///
/// Full jitter spreads the requests of many clients evenly after an outage; with less jitter they would come in waves
/// (see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// Returns a backoff whose longest delay grows from `base` to `max`. Both are clamped to a millisecond and a day.
    ///
    /// With a `base` below the round trip of the store, the first retries are useless. With a `max` above the ttl, an
    /// instance may stay unregistered, or a view stale, for longer than the outage lasted.
    pub fn new(base: Duration, max: Duration) -> Self {
        let base = base.clamp(Duration::from_millis(1), MAX_TTL);
        Self { base, max: max.clamp(base, MAX_TTL) }
    }

    /// Returns the longest delay.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Returns a backoff whose longest delay is at most `max`.
    pub(crate) fn capped(self, max: Duration) -> Self {
        Self::new(self.base.min(max), self.max.min(max))
    }

    /// Returns the longest delay after this many consecutive `failures`.
    pub(crate) fn ceiling(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.base.saturating_mul(doubled).min(self.max)
    }

    /// Returns a random delay after this many consecutive `failures`.
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_at(failures, fastrand::f64())
    }

    /// Returns the delay for `random`, which is at least 0 and less than 1.
    pub(crate) fn delay_at(&self, failures: u32, random: f64) -> Duration {
        self.ceiling(failures).mul_f64(random)
    }
}

/// 100 ms, doubled up to 5 s: the end of an outage is noticed within 5 s, and after half of that on average.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_between_zero_and_a_ceiling_that_doubles_up_to_max() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (failures, ceiling) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (u32::MAX, 1_000)] {
            let ceiling = Duration::from_millis(ceiling);
            let drawn: Vec<Duration> = (0..1_000).map(|_| backoff.delay(failures)).collect();
            assert!(drawn.iter().all(|delay| *delay <= ceiling));
            assert!(drawn.iter().any(|delay| *delay < ceiling / 5), "no short delays");
            assert!(drawn.iter().any(|delay| *delay > ceiling * 4 / 5), "no long delays");
        }
    }

    #[test]
    fn a_backoff_of_zero_still_waits() {
        let backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!((0..100).any(|_| backoff.delay(9) > Duration::ZERO));
    }

    #[test]
    fn a_delay_is_at_most_the_maximum_ttl() {
        assert!(Backoff::new(Duration::MAX, Duration::MAX).delay(u32::MAX) <= MAX_TTL);
    }
}
