//! A random number generator whose output depends only on the seed, also in later versions.

use std::time::Duration;

/// `SplitMix64` by Steele, Lea and Flood (2014). It is implemented here because no crate promises the same
/// numbers in its next version, but a seed in a bug report must stay valid.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `n`, or 0 if `n` is 0. The slight bias does not matter here.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or_default()
    }

    /// Returns a duration from `min` to `max`, or `min` if `max` is shorter.
    pub(super) fn between(&mut self, min: Duration, max: Duration) -> Duration {
        let span = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
        min + Duration::from_nanos(self.below(span.saturating_add(1)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_the_reference_implementation() {
        // From the reference implementation, https://prng.di.unimi.it/splitmix64.c, with seed 0.
        let mut rng = Rng::new(0);
        assert_eq!(rng.next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(rng.next(), 0x6E78_9E6A_A1B9_65F4);
        assert_eq!(rng.next(), 0x06C4_5D18_8009_454F);
    }

    #[test]
    fn numbers_stay_within_their_bounds() {
        let mut rng = Rng::new(7);
        let (min, max) = (Duration::from_nanos(3), Duration::from_nanos(5));
        let mut durations: Vec<_> = (0..100).map(|_| rng.between(min, max).as_nanos()).collect();
        durations.sort_unstable();
        durations.dedup();
        assert_eq!(durations, [3, 4, 5]);
        assert_eq!(rng.between(max, min), max);
        assert!(rng.between(Duration::ZERO, Duration::MAX) < Duration::MAX);
        assert_eq!(rng.below(0), 0);
    }
}
