//! The statistics of an endpoint: latency, calls in flight, consecutive failures.

use crate::ejection::{Admission, EjectionState};
use crate::latency::{Estimate, MAX_AGE, micros};
use crate::time::Ticks;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Microseconds that are added to each latency. Scheduling alone may take this long, so differences
/// between smaller latencies do not matter.
const NOISE: f32 = 500.0;

/// An estimate is stale after this many times its latency, and not before a second, so that measuring again
/// costs at most a hundredth of the time.
const STALE_AFTER: f32 = 100.0;

/// A failure counts as a call that took this many times the expected latency, so that an endpoint
/// that fails at once does not look fast.
const FAILURE_FACTOR: f32 = 3.0;

/// The first call, which connects, is not answered yet.
const COLD: u64 = u64::MAX;

/// The assumed latency, in microseconds, of an endpoint whose first calls failed or had a neutral outcome. Its initial
/// guess may be far better, namely if no endpoint was measured before: then it would get all calls. It is tried again
/// after a second.
const UNKNOWN: f32 = 10_000.0;

/// The statistics of an endpoint. They are read and written without a lock.
#[derive(Debug)]
pub(crate) struct EndpointStats {
    in_flight: AtomicU32,
    /// An [`Estimate`].
    latency: AtomicU64,
    consecutive_failures: AtomicU32,
    /// When the first call, which connects, was answered: [`COLD`] until then, and 0 if calls do not connect.
    warm_since: AtomicU64,
    pub(crate) ejection: EjectionState,
}

impl EndpointStats {
    /// Returns the statistics of an endpoint that has had no call. Its initial guess is `expected`, the
    /// latency of the other endpoints: if it looked better, all calls would go to it at once.
    pub(crate) fn new(expected: Option<f32>, now: Ticks) -> Self {
        Self {
            in_flight: 0.into(),
            latency: Estimate::guess(expected, now).pack().into(),
            consecutive_failures: 0.into(),
            warm_since: 0.into(),
            ejection: EjectionState::default(),
        }
    }

    /// Marks the endpoint as not connected: its first call connects.
    pub(crate) fn cold(self) -> Self {
        Self { warm_since: COLD.into(), ..self }
    }

    /// Returns whether a call that began at `begun` and is answered at `now` has waited for the first connection. The
    /// first answer marks the endpoint as connected.
    pub(crate) fn was_cold(&self, begun: Ticks, now: Ticks) -> bool {
        match self.warm_since.load(Ordering::Relaxed) {
            0 => false,
            COLD => {
                self.warm_since.store(now.get().max(1), Ordering::Relaxed);
                true
            }
            warm_since => begun.get() < warm_since,
        }
    }

    /// Returns the cost of a call: the expected latency, times the calls in flight plus one. A call in
    /// flight counts as `share`: 1 for an endpoint of average weight.
    #[inline]
    pub(crate) fn cost(&self, now: Ticks, share: f32) -> f32 {
        self.cost_with(now, share, 0.0)
    }

    /// Returns the cost of a call for which another endpoint was drawn first. `lighter` is the larger share of the two.
    ///
    /// The call counts as `lighter` instead of 1, if that is more. A call that moves to an endpoint of low weight counts
    /// for more there. The extra applies in both directions: if only the lighter endpoint paid it, calls would leave that
    /// endpoint sooner than they come to it.
    #[inline]
    pub(crate) fn cost_as_second(&self, now: Ticks, share: f32, lighter: f32) -> f32 {
        self.cost_with(now, share, (lighter - 1.0).max(0.0))
    }

    #[inline]
    fn cost_with(&self, now: Ticks, share: f32, extra: f32) -> f32 {
        #[allow(clippy::cast_precision_loss)]
        let in_flight = self.in_flight.load(Ordering::Relaxed) as f32;
        (self.estimate().decayed(now) + NOISE) * (in_flight * share + 1.0 + extra)
    }

    /// Returns whether the estimate is so old that a new one is worth a call.
    #[inline]
    pub(crate) fn is_stale(&self, now: Ticks) -> bool {
        let estimate = self.estimate();
        let stale_at = (estimate.micros() * 1e-6 * STALE_AFTER).max(MAX_AGE);
        self.in_flight.load(Ordering::Relaxed) == 0 && estimate.age(now) >= stale_at
    }

    /// Returns the expected latency in microseconds, or `None` before the first call has ended.
    pub(crate) fn latency(&self, now: Ticks) -> Option<f32> {
        let estimate = self.estimate();
        (!estimate.is_guess()).then(|| estimate.decayed(now))
    }

    /// Records that a call begins.
    #[inline]
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Records that a call is no longer in flight.
    #[inline]
    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records that a call was answered after `elapsed`.
    #[inline]
    pub(crate) fn answered(&self, elapsed: Duration, now: Ticks) {
        self.update(|estimate| estimate.with(micros(elapsed), now));
    }

    /// Records that a probe was answered after `elapsed`. This replaces the estimate from before the ejection.
    pub(crate) fn probe_answered(&self, elapsed: Duration, now: Ticks) {
        self.update(|_| Estimate::measured(micros(elapsed), now));
    }

    /// Records that a call was not answered within `elapsed`, a lower bound of its latency.
    pub(crate) fn unanswered(&self, elapsed: Duration, now: Ticks) {
        self.update(|estimate| estimate.raised(micros(elapsed), now));
    }

    /// Records a success. Returns whether it has ended an ejection.
    #[inline]
    pub(crate) fn succeeded(&self, began: Admission) -> bool {
        // Usually the count is 0. A read is cheaper than a write to memory that other threads read.
        let is_news = began.is_probe() || self.consecutive_failures.load(Ordering::Relaxed) != 0;
        is_news && self.recovered(began)
    }

    /// Records a success after failures.
    #[cold]
    fn recovered(&self, began: Admission) -> bool {
        if !self.ejection.is_current(began) {
            return false;
        }
        self.consecutive_failures.store(0, Ordering::Relaxed);
        self.ejection.readmit(began)
    }

    /// Records a failure. Returns the number of consecutive failures, or `None` if the call does not
    /// count because it began before the endpoint was ejected or readmitted.
    pub(crate) fn failed(&self, began: Admission, now: Ticks) -> Option<u32> {
        if !self.ejection.is_current(began) {
            return None;
        }
        let failed = |estimate: Estimate| {
            let micros = if estimate.is_guess() { UNKNOWN } else { 0.0 };
            estimate.raised((estimate.decayed(now) * FAILURE_FACTOR).max(micros), now)
        };
        self.update(failed);
        Some(self.consecutive_failures.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }

    /// Records a neutral outcome. It must not make an endpoint without other outcomes look fast.
    pub(crate) fn shown_nothing(&self, now: Ticks) {
        if self.estimate().is_guess() {
            self.update(|estimate| estimate.raised(UNKNOWN, now));
        }
    }

    #[inline]
    fn estimate(&self) -> Estimate {
        Estimate::unpack(self.latency.load(Ordering::Relaxed))
    }

    #[inline]
    fn update(&self, next: impl Fn(Estimate) -> Estimate) {
        let update = |held| Some(next(Estimate::unpack(held)).pack());
        let _ = self.latency.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::MAX_LATENCY;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Ticks {
        Ticks::of(Duration::from_millis(millis))
    }

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= b.abs() * 0.01
    }

    #[test]
    fn slow_call_raises_the_estimate_at_once_and_fast_calls_lower_it_gradually() {
        let stats = EndpointStats::new(None, at(0));
        stats.answered(MS, at(1));
        stats.answered(50 * MS, at(2));
        assert!(close(stats.latency(at(2)).unwrap(), 50_000.0));
        for tenth in 1..=100 {
            stats.answered(MS, at(2 + tenth * 100));
        }
        let after = 50_000.0 / std::f32::consts::E + 1_000.0 * (1.0 - 1.0 / std::f32::consts::E);
        assert!(close(stats.latency(at(10_002)).unwrap(), after), "{stats:?}");
    }

    #[test]
    fn estimate_of_a_slower_endpoint_becomes_stale_later() {
        let stats = EndpointStats::new(None, at(0));
        stats.answered(MS, at(0));
        assert!(!stats.is_stale(at(999)) && stats.is_stale(at(1_000)));
        stats.answered(50 * MS, at(0));
        assert!(!stats.is_stale(at(4_999)) && stats.is_stale(at(5_000)));
        stats.begin();
        assert!(!stats.is_stale(at(5_000)), "one call in flight is enough");
        stats.end();
        stats.answered(MS, at(5_000));
        assert!(close(stats.latency(at(5_000)).unwrap(), 1_000.0), "it replaces a stale estimate");
    }

    #[test]
    fn estimate_decays() {
        let stats = EndpointStats::new(None, at(0));
        stats.answered(100 * MS, at(0));
        assert!(close(stats.latency(at(10_000)).unwrap(), 36_788.0));
        assert!(stats.latency(at(60_000)).unwrap() < 300.0);
    }

    #[test]
    fn first_call_replaces_the_guess() {
        let stats = EndpointStats::new(Some(7_000.0), at(0));
        assert!(stats.latency(at(5)).is_none() && close(stats.cost(at(5), 1.0), 7_500.0));
        stats.answered(MS, at(5));
        assert!(close(stats.latency(at(5)).unwrap(), 1_000.0));
    }

    #[test]
    fn calls_in_flight_count_by_the_inverse_of_the_weight() {
        let stats = EndpointStats::new(Some(500.0), at(0));
        stats.begin();
        stats.begin();
        assert!(close(stats.cost(at(0), 1.0), 3_000.0));
        assert!(close(stats.cost(at(0), 0.5), 2_000.0));
        assert!(close(stats.cost_as_second(at(0), 0.5, 0.5), 2_000.0));
        assert!(close(stats.cost_as_second(at(0), 3.0, 3.0), 9_000.0));
        assert!(close(stats.cost_as_second(at(0), 0.5, 3.0), 4_000.0), "the first is the lighter");
        stats.end();
        assert!(close(stats.cost(at(0), 1.0), 2_000.0));
    }

    #[test]
    fn endpoint_that_fails_at_once_does_not_look_fast() {
        let stats = EndpointStats::new(None, at(0));
        stats.answered(MS, at(0));
        let began = stats.ejection.admit_anyway();
        let failed = || stats.failed(began, at(0)).unwrap();
        assert_eq!((failed(), failed()), (1, 2));
        assert!(close(stats.latency(at(0)).unwrap(), 9_000.0));
        stats.succeeded(began);
        assert_eq!(failed(), 1, "a success ends the row");
        for _ in 0..100 {
            failed();
        }
        assert_eq!(stats.latency(at(0)), Some(MAX_LATENCY), "it is bounded");
        stats.probe_answered(MS, at(800));
        assert!(
            close(stats.latency(at(800)).unwrap(), 1_000.0),
            "nor does it look slow when it serves again"
        );
    }

    #[test]
    fn abandoned_call_raises_the_latency_and_never_lowers_it() {
        let stats = EndpointStats::new(None, at(0));
        stats.answered(200 * MS, at(0));
        stats.unanswered(MS, at(0));
        assert!(close(stats.latency(at(0)).unwrap(), 200_000.0));
        stats.unanswered(1_900 * MS, at(0));
        assert!(close(stats.latency(at(0)).unwrap(), 1_900_000.0));
    }

    #[test]
    fn any_guess_is_stale_after_a_second() {
        let stats = EndpointStats::new(Some(60e6), at(0));
        assert!(!stats.is_stale(at(999)) && stats.is_stale(at(1_000)));
    }

    #[test]
    fn stale_estimate_stays_stale_when_the_milliseconds_wrap_around() {
        let stats = EndpointStats::new(None, at(0));
        stats.answered(100 * MS, at(1_000));
        for days in [1, 20, 30, 49] {
            let now = at(days * 24 * 3_600_000);
            assert!(stats.is_stale(now) && stats.latency(now).unwrap() < 1.0, "{days} days");
        }
        assert!(!stats.is_stale(at(0)), "the clock of another thread was ahead");
    }
}
