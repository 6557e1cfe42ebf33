//! Outlier ejection: an endpoint that keeps failing takes no calls for a while, and is then probed
//! with one.

use crate::time::Ticks;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When an endpoint that fails takes no calls for a while.
///
/// ```
/// use registry_balance::Ejection;
/// use std::time::Duration;
///
/// let patient = Ejection { failures: 20, ..Ejection::default() };
/// assert_eq!(patient.base, Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// The number of consecutive failures that ejects: 5 unless set. With fewer, a service that
    /// refuses one kind of call loses endpoints by it; with more, more calls are lost to a broken
    /// endpoint.
    pub failures: u32,
    /// The duration of the first ejection: 1 s unless set, with a jitter of 20 %. Then the endpoint
    /// is half-open: it gets one call, and if that fails it is ejected for twice as long.
    pub base: Duration,
    /// The longest duration: 30 s unless set. An endpoint that was repaired is found again that
    /// late.
    pub max: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, base: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

/// The longest ejection, whatever the options say.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Whether an endpoint takes calls: a circuit breaker. It is read and written without a lock.
#[derive(Debug, Default)]
pub(crate) struct EjectionState(AtomicU64);

/// The right to make the one call of a half-open endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe(u64);

/// The state, as it is packed into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    /// Consecutive ejections; 0 if it is not ejected.
    times: u8,
    /// Whether a call has the [`Probe`].
    is_probed: bool,
    until: Ticks,
}

impl EjectionState {
    /// Returns whether it takes a call: not while it is ejected, and only the probe while it is
    /// half-open.
    #[inline]
    pub(crate) fn is_usable(&self, now: Ticks) -> bool {
        let state = self.load();
        state.times == 0 || state.is_half_open(now)
    }

    /// Returns whether its ejection is over and no call probes it yet.
    #[inline]
    pub(crate) fn is_half_open(&self, now: Ticks) -> bool {
        self.load().is_half_open(now)
    }

    /// Returns whether it takes no calls now.
    pub(crate) fn is_ejected(&self, now: Ticks) -> bool {
        let state = self.load();
        state.times > 0 && now < state.until
    }

    /// Takes the right to probe it, if it is half-open and no other call has that right.
    #[inline]
    pub(crate) fn probe(&self, now: Ticks) -> Option<Probe> {
        let state = self.load();
        if !state.is_half_open(now) {
            return None;
        }
        let probed = Packed { is_probed: true, ..state };
        self.replace(state.pack(), probed).then(|| Probe(probed.pack()))
    }

    /// Ends the ejection: the probe has shown that the endpoint serves.
    pub(crate) fn readmit(&self, probe: Probe) {
        let healthy = Packed { times: 0, is_probed: false, until: Ticks::new(0) };
        self.replace(probe.0, healthy);
    }

    /// Gives the right to probe back: the call has shown nothing.
    pub(crate) fn release(&self, probe: Probe) {
        self.replace(probe.0, Packed { is_probed: false, ..Packed::unpack(probe.0) });
    }

    /// Ejects it, for a time that doubles with each consecutive ejection and is multiplied by
    /// `jitter`. Returns that time, or `None` if it is ejected already.
    pub(crate) fn eject(&self, ejection: &Ejection, jitter: f64, now: Ticks) -> Option<Duration> {
        let state = self.load();
        if state.times > 0 && now < state.until {
            return None;
        }
        let doubled = ejection.base.saturating_mul(2_u32.saturating_pow(state.times.into()));
        let duration = doubled.min(ejection.max).min(LONGEST).mul_f64(jitter);
        let times = state.times.saturating_add(1);
        let ejected = Packed { times, is_probed: false, until: now.plus(duration) };
        self.replace(state.pack(), ejected).then_some(duration)
    }

    #[inline]
    fn load(&self) -> Packed {
        Packed::unpack(self.0.load(Ordering::Relaxed))
    }

    fn replace(&self, held: u64, next: Packed) -> bool {
        let (ok, no) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.compare_exchange(held, next.pack(), ok, no).is_ok()
    }
}

impl Packed {
    const PROBED: u64 = 1 << 55;

    fn is_half_open(self, now: Ticks) -> bool {
        self.times > 0 && now >= self.until && !self.is_probed
    }

    /// Packs `times` into the first 8 bits, and `until` into the last 55, which hold 110,000 years
    /// of ticks.
    fn pack(self) -> u64 {
        let probed = if self.is_probed { Self::PROBED } else { 0 };
        u64::from(self.times) << 56 | probed | self.until.get()
    }

    #[allow(clippy::cast_possible_truncation)] // the first 8 bits
    #[inline]
    fn unpack(word: u64) -> Self {
        Self {
            times: (word >> 56) as u8,
            is_probed: word & Self::PROBED != 0,
            until: Ticks::new(word & (Self::PROBED - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_JITTER: f64 = 1.0;

    fn at(millis: u64) -> Ticks {
        Ticks::of(Duration::from_millis(millis))
    }

    fn ejection(base: u64, max: u64) -> Ejection {
        let [base, max] = [base, max].map(Duration::from_millis);
        Ejection { base, max, ..Ejection::default() }
    }

    #[test]
    fn half_open_endpoint_gets_one_call() {
        let state = EjectionState::default();
        assert!(state.is_usable(at(0)) && state.probe(at(0)).is_none());
        let ejection = ejection(1_000, 60_000);
        let first = state.eject(&ejection, 1.2, at(0)).unwrap();
        assert_eq!(first.as_millis(), 1_200);
        assert!(state.eject(&ejection, NO_JITTER, at(5)).is_none(), "it is ejected already");
        assert!(state.is_ejected(at(1_199)) && !state.is_usable(at(1_199)));

        assert!(state.is_usable(at(1_200)) && !state.is_ejected(at(1_200)));
        let probe = state.probe(at(1_201)).unwrap();
        assert!(!state.is_usable(at(1_202)) && state.probe(at(1_202)).is_none(), "one call");
        state.release(probe);
        let probe = state.probe(at(1_203)).expect("the first probe has shown nothing");
        let second = state.eject(&ejection, NO_JITTER, at(1_204)).unwrap();
        assert_eq!(second.as_millis(), 2_000);
        state.readmit(probe);
        state.release(probe);
        assert!(state.is_ejected(at(1_205)), "a probe of an earlier ejection changes nothing");

        let probe = state.probe(at(5_000)).unwrap();
        state.readmit(probe);
        assert!(state.is_usable(at(5_000)) && state.probe(at(5_000)).is_none());
        let again = state.eject(&ejection, NO_JITTER, at(6_000)).unwrap();
        assert_eq!(again.as_millis(), 1_000, "it had recovered");
    }

    #[test]
    fn ejection_is_over_however_much_later() {
        let state = EjectionState::default();
        state.eject(&ejection(1_000, 1_000), NO_JITTER, at(0)).unwrap();
        let days = |days: u64| at(days * 24 * 3_600_000);
        assert!([1, 3, 60, 4_000].into_iter().all(|n| state.is_usable(days(n))));
    }

    #[test]
    fn longest_ejection_holds_after_hundreds_in_a_row() {
        let (state, ejection) = (EjectionState::default(), ejection(1_000, 30_000));
        for n in 0..600 {
            let duration = state.eject(&ejection, NO_JITTER, at(n * 100_000)).unwrap();
            assert!(duration.as_millis() <= 30_000, "{duration:?}");
        }
        let endless = Ejection { base: Duration::MAX, max: Duration::MAX, failures: 1 };
        assert!(EjectionState::default().eject(&endless, NO_JITTER, at(1)).is_some());
    }
}
