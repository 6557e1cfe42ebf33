//! How an endpoint serves, as its calls tell: how long it takes, how many it has, how often it fails.
//!
//! The estimate is a peak EWMA: a slower call counts at once, faster ones only with time. Of what the
//! `tower` crate has, its `PeakEwma` needs a lock and exclusive access for each call, and takes an endpoint that fails at
//! once for a fast one.

use crate::clock::Ticks;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// In which time the past counts for 1/e of what it did. As go-zero has it (`decayTime` of its balancer
/// `p2c_ewma`), and Linkerd.
const DECAY: Duration = Duration::from_secs(10);

/// What a call takes on top of its latency, in microseconds: a scheduler on either side may take as long,
/// so of two endpoints below it none is the slower.
const NOISE: f32 = 500.0;

/// An endpoint is asked again that was not asked for so many times as long as its calls take: what it costs
/// to look is then a hundredth of what there is.
const FORGOTTEN_AFTER: f32 = 100.0;

/// And not before so long, as go-zero has it (`forcePick`): what is known of an endpoint for longer is
/// replaced by its next call.
const OLD: f32 = 1.0;

/// What is expected of an endpoint before anything is known of any.
const FIRST_GUESS: f32 = 1_000.0;

/// By how much a failure counts as slower than what was expected, so that one that fails at once does
/// not look like a fast one.
const FAILURE_FACTOR: f32 = 3.0;

/// A call that was given up after so many times what was expected, and after [`OLD`] at least, was not
/// answered: it counts as a failure.
const GIVEN_UP: f32 = 10.0;

/// The longest latency that is told from longer ones, in microseconds.
const MAX_LATENCY: f32 = 60e6;

/// What is known of how an endpoint serves. Read and written without a lock.
#[derive(Debug)]
pub(crate) struct Load {
    /// Calls under way.
    pending: AtomicU32,
    /// An [`Estimate`].
    latency: AtomicU64,
    /// In a row.
    failures: AtomicU32,
}

impl Load {
    /// Of an endpoint of which nothing is known: it is taken to be as good as `expected`, which is what
    /// others are. Were it taken to be the best, all calls would go to it at once.
    pub(crate) fn new(expected: Option<f32>, now: Ticks) -> Self {
        let guess = -expected.unwrap_or(FIRST_GUESS).clamp(1.0, MAX_LATENCY);
        let guess = Estimate { micros: guess, at: now.millis() };
        Self { pending: 0.into(), latency: guess.pack().into(), failures: 0.into() }
    }

    /// What a call costs there: the expected latency, and once more for each call that is under way. `share`
    /// is how much of the load one stands for: 1 for an endpoint of average weight.
    pub(crate) fn cost(&self, now: Ticks, share: f32) -> f32 {
        self.cost_with(now, share, 0.0)
    }

    /// What it costs to prefer it to another whose turn it is: a lighter one pays beforehand for what the
    /// call will weigh there.
    pub(crate) fn cost_out_of_turn(&self, now: Ticks, share: f32) -> f32 {
        self.cost_with(now, share, (share - 1.0).max(0.0))
    }

    fn cost_with(&self, now: Ticks, share: f32, extra: f32) -> f32 {
        #[allow(clippy::cast_precision_loss)]
        let pending = self.pending.load(Ordering::Relaxed) as f32;
        (self.estimate().decayed(now) + NOISE) * (pending.mul_add(share, 1.0) + extra)
    }

    /// Whether so little is known of how it is now that it is worth a call to find out.
    pub(crate) fn is_forgotten(&self, now: Ticks) -> bool {
        let estimate = self.estimate();
        let long = (estimate.micros * 1e-6 * FORGOTTEN_AFTER).max(OLD);
        self.pending.load(Ordering::Relaxed) == 0 && estimate.age(now) >= long
    }

    /// What is expected of it now, in microseconds. `None` before its first call has ended.
    pub(crate) fn latency(&self, now: Ticks) -> Option<f32> {
        let estimate = self.estimate();
        (estimate.micros > 0.0).then(|| estimate.decayed(now))
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// A call is over, whatever came of it.
    pub(crate) fn end(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call was answered after `elapsed`.
    pub(crate) fn answered(&self, elapsed: Duration, now: Ticks) {
        self.update(|estimate| estimate.with(micros(elapsed), now));
    }

    /// A call was answered after `elapsed`, of an endpoint that was ejected: what was known of it is over.
    pub(crate) fn answered_again(&self, elapsed: Duration, now: Ticks) {
        self.update(|_| Estimate { micros: micros(elapsed), at: now.millis() });
    }

    /// A call was given up after `elapsed`: it would have taken longer. Whether by so much that it counts as
    /// a failure.
    pub(crate) fn given_up(&self, elapsed: Duration, now: Ticks) -> bool {
        let (took, expected) = (micros(elapsed), self.estimate().decayed(now));
        self.update(|estimate| estimate.raised(took, now));
        took >= (expected * GIVEN_UP).max(OLD * 1e6)
    }

    /// A call succeeded.
    pub(crate) fn succeeded(&self) {
        // Most find it so: to read is cheaper than to write what others read.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A call failed, and not by what it asked for. How many did in a row.
    pub(crate) fn failed(&self, now: Ticks) -> u32 {
        self.update(|estimate| estimate.raised(estimate.decayed(now) * FAILURE_FACTOR, now));
        self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    fn estimate(&self) -> Estimate {
        Estimate::unpack(self.latency.load(Ordering::Relaxed))
    }

    fn update(&self, next: impl Fn(Estimate) -> Estimate) {
        let update = |held| Some(next(Estimate::unpack(held)).pack());
        let _ = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }
}

/// A latency, and when that was known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    /// Negative for a guess, which the first call replaces.
    micros: f32,
    /// In milliseconds, which wrap.
    at: u32,
}

impl Estimate {
    /// What it counts for at `now`: who was slow and was not asked since may have become better.
    fn decayed(self, now: Ticks) -> f32 {
        self.micros.abs() * self.weight(now)
    }

    /// With a call that took so long.
    fn with(self, micros: f32, now: Ticks) -> Self {
        let at = now.millis();
        if self.micros < 0.0 || micros >= self.micros || self.age(now) >= OLD {
            return Self { micros, at };
        }
        let weight = self.weight(now);
        Self { micros: self.micros * weight + micros * (1.0 - weight), at }
    }

    /// With a call that took at least so long.
    fn raised(self, micros: f32, now: Ticks) -> Self {
        let micros = micros.min(MAX_LATENCY);
        if micros <= self.decayed(now) { self } else { Self { micros, at: now.millis() } }
    }

    /// How much of what was known then counts now.
    fn weight(self, now: Ticks) -> f32 {
        match self.age(now) {
            0.0 => 1.0,
            seconds => (-seconds / DECAY.as_secs_f32()).exp(),
        }
    }

    /// For how many seconds it has been known.
    fn age(self, now: Ticks) -> f32 {
        /// Another thread may be ahead of us by so much, in milliseconds.
        const AHEAD: u32 = 60_000;
        let millis = now.millis().wrapping_sub(self.at);
        #[allow(clippy::cast_precision_loss)] // a millisecond in hours makes no difference
        if millis > u32::MAX - AHEAD { 0.0 } else { millis as f32 / 1e3 }
    }

    fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at)
    }

    #[allow(clippy::cast_possible_truncation)] // the halves
    fn unpack(packed: u64) -> Self {
        Self { micros: f32::from_bits((packed >> 32) as u32), at: packed as u32 }
    }
}

fn micros(elapsed: Duration) -> f32 {
    (elapsed.as_secs_f32() * 1e6).clamp(1.0, MAX_LATENCY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Ticks {
        Ticks::of(Duration::from_millis(millis))
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= b.abs() * 0.01
    }

    #[test]
    fn a_slow_call_counts_at_once_and_fast_ones_with_time() {
        let load = Load::new(None, at(0));
        load.answered(MS, at(1));
        load.answered(50 * MS, at(2));
        assert!(close(load.latency(at(2)).unwrap(), 50_000.0));
        for tenth in 1..=100 {
            load.answered(MS, at(2 + tenth * 100));
        }
        let after = 50_000.0 / std::f32::consts::E + 1_000.0 * (1.0 - 1.0 / std::f32::consts::E);
        assert!(close(load.latency(at(10_002)).unwrap(), after), "{load:?}");
    }

    #[test]
    fn a_slow_endpoint_is_asked_again_the_later_the_slower_it_is() {
        let load = Load::new(None, at(0));
        load.answered(MS, at(0));
        assert!(!load.is_forgotten(at(999)) && load.is_forgotten(at(1_000)));
        load.answered(50 * MS, at(0));
        assert!(!load.is_forgotten(at(4_999)) && load.is_forgotten(at(5_000)));
        load.begin();
        assert!(!load.is_forgotten(at(5_000)), "one call is enough to find out");
        load.end();
        load.answered(MS, at(5_000));
        assert!(close(load.latency(at(5_000)).unwrap(), 1_000.0), "what was known was old");
    }

    #[test]
    fn what_was_known_fades() {
        let load = Load::new(None, at(0));
        load.answered(100 * MS, at(0));
        assert!(close(load.latency(at(10_000)).unwrap(), 36_788.0));
        assert!(load.latency(at(60_000)).unwrap() < 300.0);
    }

    #[test]
    fn the_first_call_replaces_what_was_guessed() {
        let load = Load::new(Some(7_000.0), at(0));
        assert!(load.latency(at(5)).is_none() && close(load.cost(at(5), 1.0), 7_500.0));
        load.answered(MS, at(5));
        assert!(close(load.latency(at(5)).unwrap(), 1_000.0));
    }

    #[test]
    fn pending_calls_count_by_the_inverse_of_the_weight() {
        let load = Load::new(Some(500.0), at(0));
        load.begin();
        load.begin();
        assert!(close(load.cost(at(0), 1.0), 3_000.0));
        assert!(close(load.cost(at(0), 0.5), 2_000.0));
        assert!(close(load.cost_out_of_turn(at(0), 0.5), 2_000.0));
        assert!(close(load.cost_out_of_turn(at(0), 3.0), 9_000.0));
        load.end();
        assert!(close(load.cost(at(0), 1.0), 2_000.0));
    }

    #[test]
    fn an_endpoint_that_fails_at_once_does_not_look_fast() {
        let load = Load::new(None, at(0));
        load.answered(MS, at(0));
        assert_eq!((load.failed(at(0)), load.failed(at(0))), (1, 2));
        assert!(close(load.latency(at(0)).unwrap(), 9_000.0));
        load.succeeded();
        assert_eq!(load.failed(at(0)), 1, "in a row");
        for _ in 0..100 {
            load.failed(at(0));
        }
        assert_eq!(load.latency(at(0)), Some(MAX_LATENCY), "it has an end");
        load.answered_again(MS, at(800));
        assert!(close(load.latency(at(800)).unwrap(), 1_000.0), "nor slow when it serves again");
    }

    #[test]
    fn a_call_that_was_given_up_tells_that_it_takes_longer_but_never_that_it_is_fast() {
        let load = Load::new(None, at(0));
        load.answered(200 * MS, at(0));
        assert!(!load.given_up(MS, at(0)));
        assert!(close(load.latency(at(0)).unwrap(), 200_000.0));
        assert!(!load.given_up(1_900 * MS, at(0)), "it may just be slow");
        assert!(close(load.latency(at(0)).unwrap(), 1_900_000.0));
        let load = Load::new(None, at(0));
        load.answered(MS, at(0));
        assert!(!load.given_up(999 * MS, at(0)));
        let load = Load::new(None, at(0));
        load.answered(MS, at(0));
        assert!(load.given_up(1_000 * MS, at(0)), "nobody waits that long for nothing");
    }

    #[test]
    fn a_guess_is_looked_after_soon_however_bad_it_is() {
        let load = Load::new(Some(60e6), at(0));
        assert!(!load.is_forgotten(at(999)) && load.is_forgotten(at(1_000)));
    }

    #[test]
    fn what_is_old_stays_old_when_the_clock_of_milliseconds_wraps() {
        let load = Load::new(None, at(0));
        load.answered(100 * MS, at(1_000));
        for days in [1, 20, 30, 49] {
            let now = at(days * 24 * 3_600_000);
            assert!(load.is_forgotten(now) && load.latency(now).unwrap() < 1.0, "{days} days");
        }
        assert!(!load.is_forgotten(at(0)), "another thread was ahead");
    }
}
