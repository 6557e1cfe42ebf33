//! Draws that are the same for the same seed, for ever.

use std::time::Duration;

/// `SplitMix64`, by Steele, Lea and Flood (2014). It is written out here, in a few lines, since no
/// crate promises that its next version draws the same: a seed in a bug report has to stay good.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`, or 0 if there is none. Slightly uneven, which is no harm here.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or_default()
    }

    /// A time from `min` to `max`, or `min` if there is none.
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
    fn it_draws_what_the_published_generator_draws() {
        // From the reference implementation, https://prng.di.unimi.it/splitmix64.c, with seed 0.
        let mut dice = Dice::new(0);
        assert_eq!(dice.next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(dice.next(), 0x6E78_9E6A_A1B9_65F4);
        assert_eq!(dice.next(), 0x06C4_5D18_8009_454F);
    }

    #[test]
    fn a_draw_stays_within_its_bounds() {
        let mut dice = Dice::new(7);
        let (min, max) = (Duration::from_nanos(3), Duration::from_nanos(5));
        let mut drawn: Vec<_> = (0..100).map(|_| dice.between(min, max).as_nanos()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [3, 4, 5]);
        assert_eq!(dice.between(max, min), max);
        assert!(dice.between(Duration::ZERO, Duration::MAX) < Duration::MAX);
        assert_eq!(dice.below(0), 0);
    }
}
