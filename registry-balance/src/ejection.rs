//! Outlier ejection: an endpoint that keeps failing takes no calls for a while, and is then probed
//! with one.

use crate::time::Ticks;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When and for how long a failing endpoint takes no calls.
///
/// ```
/// use registry_balance::Ejection;
/// use std::time::Duration;
///
/// let patient = Ejection::default().with_failures(20);
/// assert_eq!(patient.base, Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ejection {
    /// The number of consecutive failures that ejects. Default: 5. With fewer, a service that rejects
    /// one kind of call loses endpoints; with more, more calls fail at a broken endpoint.
    pub failures: u32,
    /// The duration of the first ejection, with a jitter of 20 %. Default: 1 s. Then the endpoint is
    /// half-open: it gets one call as a probe, and if that fails it is ejected for twice as long. If
    /// the probe has no outcome within this duration, another call probes the endpoint.
    pub base: Duration,
    /// The longest duration. Default: 30 s. An endpoint that was repaired is used again that late.
    pub max: Duration,
}

impl Ejection {
    /// Sets the number of consecutive failures that ejects.
    #[must_use]
    pub fn with_failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// Sets the duration of the first ejection.
    #[must_use]
    pub fn with_base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// Sets the longest duration.
    #[must_use]
    pub fn with_max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, base: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

/// The limit of [`Ejection::max`].
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Whether an endpoint takes calls: a circuit breaker. It is read and written without a lock.
#[derive(Debug, Default)]
pub(crate) struct EjectionState(AtomicU64);

/// The state in which a call began. Only outcomes of calls that began in the current epoch count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    /// The packed [`State`].
    word: u64,
    is_probe: bool,
}

/// The state, as it is packed into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// How often it was ejected or readmitted.
    epoch: u16,
    /// Consecutive ejections; 0 if it is not ejected.
    times: u8,
    /// Whether the answer to the probe has begun. The ejection then ends at `until`, unless the probe
    /// fails before: a stream may stay open for hours.
    is_answered: bool,
    /// The end of the ejection, or the deadline of the probe.
    until: Ticks,
}

impl Admission {
    /// Returns whether the call probes a half-open endpoint.
    #[inline]
    pub(crate) fn is_probe(&self) -> bool {
        self.is_probe
    }

    fn state(self) -> State {
        State::unpack(self.word)
    }
}

impl EjectionState {
    /// Returns whether the endpoint takes a call: it is neither ejected nor being probed.
    #[inline]
    pub(crate) fn is_usable(&self, now: Ticks) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        State::is_healthy(word) || now >= State::unpack(word).until
    }

    /// Returns whether the endpoint is ejected, its time is over, and no call probes it.
    #[inline]
    pub(crate) fn is_half_open(&self, now: Ticks) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        !State::is_healthy(word) && State::unpack(word).is_half_open(now)
    }

    /// Returns whether the endpoint was ejected and has not been readmitted.
    pub(crate) fn is_ejected(&self) -> bool {
        !State::is_healthy(self.0.load(Ordering::Relaxed))
    }

    /// Returns whether the call began in the current epoch: since the last ejection or readmission.
    pub(crate) fn is_current(&self, began: Admission) -> bool {
        State::unpack(self.0.load(Ordering::Relaxed)).epoch == began.state().epoch
    }

    /// Begins a call, which probes the endpoint if it is half-open. `None` if the endpoint takes no
    /// call now.
    #[inline]
    pub(crate) fn admit(&self, now: Ticks, ejection: Option<&Ejection>) -> Option<Admission> {
        let word = self.0.load(Ordering::Relaxed);
        if State::is_healthy(word) {
            return Some(Admission { word, is_probe: false });
        }
        self.admit_ejected(word, now, ejection)
    }

    /// Begins a call at an ejected endpoint, because every endpoint is ejected.
    pub(crate) fn admit_anyway(&self) -> Admission {
        Admission { word: self.0.load(Ordering::Relaxed), is_probe: false }
    }

    /// Records that the answer to the probe has begun.
    pub(crate) fn answered(&self, probe: &mut Admission) {
        let answered = State { is_answered: true, ..probe.state() }.pack();
        if self.replace(probe.word, answered) {
            probe.word = answered;
        }
    }

    /// Ends the ejection, unless the call began in another epoch. Returns whether it has.
    pub(crate) fn readmit(&self, began: Admission) -> bool {
        let readmitted = self.update(|state| {
            (state.times > 0 && state.epoch == began.state().epoch).then(|| state.readmitted())
        });
        readmitted.is_some()
    }

    /// Lets another call probe the endpoint, because this one was not made.
    pub(crate) fn release(&self, probe: Admission) {
        let half_open = State { is_answered: false, until: Ticks::new(0), ..probe.state() };
        self.replace(probe.word, half_open.pack());
    }

    /// Ejects the endpoint and returns for how long. The duration doubles with each consecutive
    /// ejection and is multiplied by `jitter`. Does nothing if the failed call began in another
    /// epoch, or began during the ejection without being a probe.
    pub(crate) fn eject(
        &self,
        ejection: &Ejection,
        jitter: f64,
        failed: Admission,
        now: Ticks,
    ) -> Option<Duration> {
        let duration = |times: u8| {
            let doubled = ejection.base.saturating_mul(2_u32.saturating_pow(times.into()));
            doubled.min(ejection.max).min(LONGEST).mul_f64(jitter)
        };
        let before = self.update(|state| {
            let counts = state.times == 0 || failed.is_probe;
            (counts && state.epoch == failed.state().epoch)
                .then(|| state.ejected(now.plus(duration(state.times))))
        })?;
        Some(duration(before.times))
    }

    #[cold]
    fn admit_ejected(
        &self,
        word: u64,
        now: Ticks,
        ejection: Option<&Ejection>,
    ) -> Option<Admission> {
        let state = State::unpack(word);
        if now < state.until {
            return None;
        }
        let next = if state.is_answered {
            state.readmitted()
        } else {
            let limit = ejection.map_or(Duration::ZERO, |ejection| ejection.base.min(LONGEST));
            State { until: now.plus(limit), ..state }
        };
        let next = next.pack();
        let admission = Admission { word: next, is_probe: !state.is_answered };
        self.replace(word, next).then_some(admission)
    }

    /// Replaces the state with what `next` returns, if anything. Returns the previous state.
    fn update(&self, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let update = |word| Some(next(State::unpack(word))?.pack());
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        before.ok().map(State::unpack)
    }

    fn replace(&self, held: u64, next: u64) -> bool {
        let (ok, no) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.compare_exchange(held, next, ok, no).is_ok()
    }
}

impl State {
    /// Enough for 55 years of ticks.
    const UNTIL_BITS: u32 = 44;
    const TIMES_BITS: u32 = 6;
    const EPOCH_BITS: u32 = 13;
    const TIMES_MASK: u64 = ((1 << Self::TIMES_BITS) - 1) << (Self::UNTIL_BITS + 1);

    /// Returns whether the endpoint of this packed state is not ejected.
    #[inline]
    fn is_healthy(word: u64) -> bool {
        word & Self::TIMES_MASK == 0
    }

    fn is_half_open(self, now: Ticks) -> bool {
        now >= self.until && !self.is_answered
    }

    fn ejected(self, until: Ticks) -> Self {
        let times = (self.times + 1).min((1 << Self::TIMES_BITS) - 1);
        Self { epoch: self.next_epoch(), times, is_answered: false, until }
    }

    fn readmitted(self) -> Self {
        let (epoch, until) = (self.next_epoch(), Ticks::new(0));
        Self { epoch, times: 0, is_answered: false, until }
    }

    /// Returns the number of the next epoch. It wraps around long after all calls of that number ended.
    fn next_epoch(self) -> u16 {
        (self.epoch + 1) % (1 << Self::EPOCH_BITS)
    }

    /// Packs, from the first bit: epoch, times, whether it is answered, until.
    fn pack(self) -> u64 {
        let until = self.until.get().min((1 << Self::UNTIL_BITS) - 1);
        let answered = u64::from(self.is_answered) << Self::UNTIL_BITS;
        let times = u64::from(self.times) << (Self::UNTIL_BITS + 1);
        let epoch = u64::from(self.epoch) << (Self::UNTIL_BITS + 1 + Self::TIMES_BITS);
        epoch | times | answered | until
    }

    #[allow(clippy::cast_possible_truncation)] // each is cut to its bits
    #[inline]
    fn unpack(word: u64) -> Self {
        let rest = word >> Self::UNTIL_BITS;
        Self {
            epoch: (rest >> (1 + Self::TIMES_BITS)) as u16,
            times: (rest >> 1) as u8 & ((1 << Self::TIMES_BITS) - 1),
            is_answered: rest & 1 != 0,
            until: Ticks::new(word & ((1 << Self::UNTIL_BITS) - 1)),
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

    /// An endpoint whose ejection is over at 1,000 ms.
    fn half_open() -> EjectionState {
        let state = EjectionState::default();
        state.eject(&ejection(1_000, 60_000), NO_JITTER, state.admit_anyway(), at(0)).unwrap();
        state
    }

    fn probe(state: &EjectionState, millis: u64) -> Option<Admission> {
        state.admit(at(millis), Some(&ejection(1_000, 60_000))).filter(Admission::is_probe)
    }

    #[test]
    fn half_open_endpoint_gets_one_call() {
        let state = EjectionState::default();
        assert!(state.is_usable(at(0)) && probe(&state, 0).is_none());
        let ejection = ejection(1_000, 60_000);
        let (one, other) = (state.admit_anyway(), state.admit_anyway());
        let first = state.eject(&ejection, 1.2, one, at(0)).unwrap();
        assert_eq!(first.as_millis(), 1_200);
        assert!(state.eject(&ejection, NO_JITTER, other, at(5)).is_none(), "it is ejected already");
        assert!(state.is_ejected() && !state.is_usable(at(1_199)));

        assert!(state.is_usable(at(1_200)) && state.is_half_open(at(1_200)));
        let released = probe(&state, 1_201).unwrap();
        assert!(!state.is_usable(at(1_202)) && probe(&state, 1_202).is_none(), "one call");
        state.release(released);
        let failed = probe(&state, 1_203).expect("the first was not made");
        let second = state.eject(&ejection, NO_JITTER, failed, at(1_204)).unwrap();
        assert_eq!(second.as_millis(), 2_000);
        state.readmit(failed);
        state.release(failed);
        assert!(!state.is_usable(at(1_205)), "a probe of an earlier ejection changes nothing");

        state.readmit(probe(&state, 5_000).unwrap());
        assert!(state.is_usable(at(5_000)) && !state.is_ejected());
        let again = state.eject(&ejection, NO_JITTER, state.admit_anyway(), at(6_000)).unwrap();
        assert_eq!(again.as_millis(), 1_000, "it had recovered");
    }

    /// The endpoint took no calls for as long as its probe hung.
    #[test]
    fn hung_probe_is_followed_by_another_after_the_base_duration() {
        let state = half_open();
        let hung = probe(&state, 1_000).unwrap();
        assert!(!state.is_usable(at(1_999)));
        let next = probe(&state, 2_000).expect("the first shows nothing");
        state.release(hung);
        assert!(!state.is_usable(at(2_001)), "the second is under way");
        state.readmit(hung);
        assert!(state.is_usable(at(2_001)), "it was slow, and it has succeeded");
        let ejection = ejection(1_000, 60_000);
        assert!(state.eject(&ejection, NO_JITTER, next, at(2_002)).is_none(), "it began before");
    }

    #[test]
    fn answered_probe_ends_the_ejection_unless_it_fails_in_time() {
        let state = half_open();
        let mut stream = probe(&state, 1_000).unwrap();
        state.answered(&mut stream);
        assert!(!state.is_usable(at(1_999)) && state.is_ejected(), "it may still fail");
        assert!(state.is_usable(at(2_000)) && !state.is_half_open(at(2_000)));
        let call = state.admit(at(2_000), None).unwrap();
        assert!(!call.is_probe() && !state.is_ejected());

        let state = half_open();
        let mut cut_off = probe(&state, 1_000).unwrap();
        state.answered(&mut cut_off);
        let ejection = ejection(1_000, 60_000);
        let again = state.eject(&ejection, NO_JITTER, cut_off, at(1_500)).unwrap();
        assert_eq!(again.as_millis(), 2_000);
    }

    #[test]
    fn call_that_began_in_another_epoch_neither_ejects_nor_readmits() {
        let (state, ejection) = (EjectionState::default(), ejection(1_000, 60_000));
        let (before, other) = (state.admit_anyway(), state.admit_anyway());
        state.eject(&ejection, NO_JITTER, other, at(0)).unwrap();
        state.readmit(before);
        assert!(state.is_ejected());
        state.readmit(probe(&state, 1_000).unwrap());
        assert!(state.eject(&ejection, NO_JITTER, before, at(1_001)).is_none());
        assert!(!state.is_ejected());
    }

    #[test]
    fn call_that_began_during_the_ejection_does_not_extend_it() {
        let state = half_open();
        let during = state.admit_anyway();
        assert!(state.eject(&ejection(1_000, 60_000), NO_JITTER, during, at(900)).is_none());
        assert!(state.is_usable(at(1_000)));
        state.readmit(during);
        assert!(!state.is_ejected(), "its success shows as much as that of a probe");
    }

    #[test]
    fn ejection_stays_over_at_any_later_time() {
        let state = half_open();
        let days = |days: u64| at(days * 24 * 3_600_000);
        assert!([1, 3, 60, 4_000].into_iter().all(|n| state.is_usable(days(n))));
    }

    #[test]
    fn ejection_never_exceeds_the_longest_duration() {
        let (state, ejection) = (EjectionState::default(), ejection(1_000, 30_000));
        let mut failed = state.admit_anyway();
        for n in 0..20_000 {
            let duration = state.eject(&ejection, NO_JITTER, failed, at(n * 100_000)).unwrap();
            assert!(duration.as_millis() <= 30_000, "{duration:?}");
            failed = probe(&state, n * 100_000 + 50_000).unwrap();
        }
        let (state, endless) = (EjectionState::default(), Duration::MAX);
        let endless = Ejection { base: endless, max: endless, failures: 1 };
        assert!(state.eject(&endless, NO_JITTER, state.admit_anyway(), at(1)).is_some());
    }

    #[test]
    fn state_survives_packing() {
        let (epoch, times, until) = (8_191, 63, Ticks::new((1 << 44) - 1));
        for is_answered in [true, false] {
            let state = State { epoch, times, is_answered, until };
            assert_eq!(State::unpack(state.pack()), state);
        }
    }
}
