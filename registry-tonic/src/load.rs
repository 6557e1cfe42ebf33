//! How an endpoint serves, as its calls tell: how long it takes, how many it has, how often it fails.
//!
//! The estimate is a peak EWMA: a slower call counts at once, faster ones only with time. Of what the
//! `tower` crate has, its `PeakEwma` needs a lock and exclusive access for each call, and takes an endpoint that fails at
//! once for a fast one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

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

/// The longest latency that is told from longer ones, in microseconds.
const MAX_LATENCY: f32 = 60e6;

/// Ticks of 100 us since a channel was made. They wrap after five days, and so are compared by difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticks(u32);

impl Ticks {
    const PER_SECOND: f32 = 10_000.0;

    /// The time now, for a channel made at `start`.
    pub(crate) fn since(start: Instant) -> Self {
        Self::of(Instant::now().saturating_duration_since(start))
    }

    /// So long after the start.
    #[allow(clippy::cast_possible_truncation)] // it wraps
    pub(crate) fn of(elapsed: Duration) -> Self {
        Self((elapsed.as_micros() / 100) as u32)
    }

    fn plus(self, duration: Duration) -> Self {
        Self(self.0.wrapping_add(Self::of(duration).0))
    }

    /// Whether it is `other`, or after it.
    fn reached(self, other: Self) -> bool {
        self.0.wrapping_sub(other.0) < u32::MAX / 2
    }

    fn seconds_after(self, earlier: Self) -> f32 {
        if !self.reached(earlier) {
            return 0.0; // another thread was faster
        }
        #[allow(clippy::cast_precision_loss)] // a tick in thousands makes no difference
        let ticks = self.0.wrapping_sub(earlier.0) as f32;
        ticks / Self::PER_SECOND
    }
}

/// When an endpoint that fails gets no calls for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures in a row: 5 unless set. Fewer, and a service that refuses one kind of call
    /// loses endpoints by it; more, and more calls are lost to an endpoint that is broken.
    pub failures: u32,
    /// For how long, the first time: 1 s unless set. Then it gets one call, and if that fails it is
    /// ejected for twice as long.
    pub base: Duration,
    /// For how long at most: 30 s unless set. An endpoint that was mended is found again that late.
    pub max: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, base: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// It failed, and not by what it asked for.
    Failure,
}

/// What is known of one endpoint. All of it is read and written without a lock.
#[derive(Debug)]
pub(crate) struct Load {
    /// Calls under way.
    pending: AtomicU32,
    /// An [`Estimate`].
    latency: AtomicU64,
    /// In a row.
    failures: AtomicU32,
    /// How many times in a row it was ejected, and until which tick it is.
    ejection: AtomicU64,
}

impl Load {
    /// Of an endpoint of which nothing is known: it is taken to be as good as `expected`, which is what
    /// others are. Were it taken to be the best, all calls would go to it at once.
    pub(crate) fn new(expected: Option<f32>, now: Ticks) -> Self {
        let guess = Estimate { micros: -expected.unwrap_or(FIRST_GUESS).max(1.0), at: now };
        Self {
            pending: AtomicU32::new(0),
            latency: AtomicU64::new(guess.pack()),
            failures: AtomicU32::new(0),
            ejection: AtomicU64::new(0),
        }
    }

    /// What another call would cost: the expected latency, times the calls it would be one of. `share`
    /// is how much of the load a pending call stands for: 1 for an endpoint of average weight.
    pub(crate) fn cost(&self, now: Ticks, share: f32) -> f32 {
        #[allow(clippy::cast_precision_loss)]
        let pending = self.pending() as f32;
        (self.estimate().decayed(now) + NOISE) * pending.mul_add(share, 1.0)
    }

    /// Whether so little is known of how it is now that it is worth a call to find out.
    pub(crate) fn is_forgotten(&self, now: Ticks) -> bool {
        let Estimate { micros, at } = self.estimate();
        let long = (micros.abs() * 1e-6 * FORGOTTEN_AFTER).max(OLD);
        self.pending() == 0 && now.seconds_after(at) >= long
    }

    /// What is expected of it now, in microseconds. `None` before its first call has ended.
    pub(crate) fn latency(&self, now: Ticks) -> Option<f32> {
        let estimate = self.estimate();
        (estimate.micros > 0.0).then(|| estimate.decayed(now))
    }

    /// Calls under way.
    pub(crate) fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
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

    /// A call was given up after `elapsed`: it would have taken longer.
    pub(crate) fn given_up(&self, elapsed: Duration, now: Ticks) {
        self.update(|estimate| estimate.raised(micros(elapsed), now));
    }

    /// Takes in what came of a call. `true` if it has now failed so often that it is to be ejected.
    pub(crate) fn judge(&self, outcome: Outcome, limit: u32, now: Ticks) -> bool {
        if outcome == Outcome::Success {
            // Most find it so: to read is cheaper than to write what others read.
            if self.failures.load(Ordering::Relaxed) != 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
            if self.ejection.load(Ordering::Relaxed) != 0 {
                self.ejection.store(0, Ordering::Relaxed);
            }
            return false;
        }
        self.update(|estimate| estimate.raised(estimate.decayed(now) * FAILURE_FACTOR, now));
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failures >= limit || self.is_on_probation(now)
    }

    /// Gives it no calls for a while: the longer the more often in a row. `None` if it is ejected
    /// already.
    pub(crate) fn eject(&self, ejection: &Ejection, now: Ticks) -> Option<Duration> {
        let held = self.ejection.load(Ordering::Relaxed);
        let (times, until) = unpack(held);
        if times > 0 && !now.reached(until) {
            return None;
        }
        let doubled = ejection.base.saturating_mul(2_u32.saturating_pow(times));
        let duration = doubled.min(ejection.max);
        let next = pack(times.saturating_add(1), now.plus(duration));
        let won = self.ejection.compare_exchange(held, next, Ordering::Relaxed, Ordering::Relaxed);
        won.ok().map(|_| duration)
    }

    /// Whether it takes a call: not while it is ejected, and only one after that.
    pub(crate) fn is_usable(&self, now: Ticks) -> bool {
        match unpack(self.ejection.load(Ordering::Relaxed)) {
            (0, _) => true,
            (_, until) => now.reached(until) && self.pending() == 0,
        }
    }

    /// Whether it gets no calls now.
    pub(crate) fn is_ejected(&self, now: Ticks) -> bool {
        let (times, until) = unpack(self.ejection.load(Ordering::Relaxed));
        times > 0 && !now.reached(until)
    }

    /// Whether it was ejected, and has not shown yet that it serves again.
    fn is_on_probation(&self, now: Ticks) -> bool {
        let (times, until) = unpack(self.ejection.load(Ordering::Relaxed));
        times > 0 && now.reached(until)
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
    at: Ticks,
}

impl Estimate {
    /// What it counts for at `now`: who was slow and was not asked since may have become better.
    fn decayed(self, now: Ticks) -> f32 {
        if self.micros < 0.0 {
            return -self.micros;
        }
        self.micros * weight(self.at, now)
    }

    /// With a call that took so long.
    fn with(self, micros: f32, now: Ticks) -> Self {
        if self.micros < 0.0 || micros >= self.micros || now.seconds_after(self.at) >= OLD {
            return Self { micros, at: now };
        }
        let weight = weight(self.at, now);
        Self { micros: self.micros * weight + micros * (1.0 - weight), at: now }
    }

    /// With a call that took at least so long.
    fn raised(self, micros: f32, now: Ticks) -> Self {
        let micros = micros.min(MAX_LATENCY);
        if micros <= self.decayed(now) { self } else { Self { micros, at: now } }
    }

    fn pack(self) -> u64 {
        u64::from(self.micros.to_bits()) << 32 | u64::from(self.at.0)
    }

    fn unpack(packed: u64) -> Self {
        let (micros, at) = unpack(packed);
        Self { micros: f32::from_bits(micros), at }
    }
}

fn pack(high: u32, low: Ticks) -> u64 {
    u64::from(high) << 32 | u64::from(low.0)
}

#[allow(clippy::cast_possible_truncation)] // the halves
fn unpack(packed: u64) -> (u32, Ticks) {
    ((packed >> 32) as u32, Ticks(packed as u32))
}

/// How much of what was known then counts now.
fn weight(then: Ticks, now: Ticks) -> f32 {
    match now.seconds_after(then) {
        0.0 => 1.0,
        seconds => (-seconds / DECAY.as_secs_f32()).exp(),
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
        load.end();
        assert!(close(load.cost(at(0), 1.0), 2_000.0) && load.pending() == 1);
    }

    #[test]
    fn an_endpoint_that_fails_at_once_does_not_look_fast() {
        let load = Load::new(None, at(0));
        load.answered(MS, at(0));
        load.judge(Outcome::Failure, 5, at(0));
        load.judge(Outcome::Failure, 5, at(0));
        assert!(close(load.latency(at(0)).unwrap(), 9_000.0));
        for _ in 0..100 {
            load.judge(Outcome::Failure, u32::MAX, at(0));
        }
        assert_eq!(load.latency(at(0)), Some(MAX_LATENCY), "it has an end");
    }

    #[test]
    fn a_call_that_was_given_up_tells_that_it_takes_longer_but_never_that_it_is_fast() {
        let load = Load::new(None, at(0));
        load.answered(10 * MS, at(0));
        load.given_up(MS, at(0));
        assert!(close(load.latency(at(0)).unwrap(), 10_000.0));
        load.given_up(2_000 * MS, at(0));
        assert!(close(load.latency(at(0)).unwrap(), 2_000_000.0));
    }

    #[test]
    fn it_is_ejected_after_failures_in_a_row_and_gets_one_call_to_show_that_it_serves_again() {
        let ejection = Ejection { failures: 3, base: 1_000 * MS, max: 3_000 * MS };
        let load = Load::new(None, at(0));
        let fail = |now| load.judge(Outcome::Failure, ejection.failures, now);
        assert!(!fail(at(0)) && !fail(at(0)));
        load.judge(Outcome::Success, 3, at(0));
        assert!(!fail(at(0)) && !fail(at(0)), "not in a row");
        assert!(fail(at(0)));
        assert_eq!(load.eject(&ejection, at(0)), Some(1_000 * MS));
        assert_eq!(load.eject(&ejection, at(5)), None, "it is ejected already");
        assert!(load.is_ejected(at(999)) && !load.is_usable(at(999)));

        assert!(load.is_usable(at(1_000)));
        load.begin();
        assert!(!load.is_usable(at(1_000)), "one call, not more");
        assert!(fail(at(1_001)), "a single failure is enough now");
        load.end();
        assert_eq!(load.eject(&ejection, at(1_001)), Some(2_000 * MS));
        assert!(fail(at(3_001)));
        assert_eq!(load.eject(&ejection, at(3_001)), Some(3_000 * MS), "there is a longest");

        load.judge(Outcome::Success, 3, at(7_000));
        load.begin();
        assert!(load.is_usable(at(7_000)));
        assert!(!fail(at(7_000)));
    }

    #[test]
    fn ticks_may_wrap() {
        let before = Ticks(u32::MAX - 5);
        let after = before.plus(MS);
        assert_eq!(after, Ticks(4));
        assert!(after.reached(before) && !before.reached(after));
        assert!(close(after.seconds_after(before), 0.001));
        assert!(before.seconds_after(after) <= 0.0);
    }
}
