//! Endpoints that keep failing are left alone for a while, and tried again with one call.

use crate::clock::Ticks;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When an endpoint that fails gets no calls for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures in a row: 5 unless set. Fewer, and a service that refuses one kind of call
    /// loses endpoints by it; more, and more calls are lost to an endpoint that is broken.
    pub failures: u32,
    /// For how long, the first time: 1 s unless set, a fifth more or less. Then it gets one call, and if
    /// that fails it is ejected for twice as long.
    pub base: Duration,
    /// For how long at most: 30 s unless set. An endpoint that was mended is found again that late.
    pub max: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self { failures: 5, base: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

/// Whether an endpoint gets calls. Read and written without a lock.
#[derive(Debug, Default)]
pub(crate) struct Standing(AtomicU64);

/// The right to make the one call that shows whether an ejected endpoint serves again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe(u64);

/// What a standing is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    /// Ejected so many times in a row; 0: it is not.
    times: u8,
    /// Somebody has the [`Probe`].
    is_probed: bool,
    until: Ticks,
}

impl Standing {
    /// Whether it is to get a call: not while it is ejected, and one alone after that.
    pub(crate) fn is_usable(&self, now: Ticks) -> bool {
        let word = self.word();
        word.times == 0 || word.awaits_probe(now)
    }

    /// Whether its ejection is over, and one call is to show whether it serves again.
    pub(crate) fn awaits_probe(&self, now: Ticks) -> bool {
        self.word().awaits_probe(now)
    }

    /// Whether it gets no calls now.
    pub(crate) fn is_ejected(&self, now: Ticks) -> bool {
        let word = self.word();
        word.times > 0 && now < word.until
    }

    /// The right to probe it, if it is to be probed and nobody else has it.
    pub(crate) fn probe(&self, now: Ticks) -> Option<Probe> {
        let word = self.word();
        if !word.awaits_probe(now) {
            return None;
        }
        let probed = Word { is_probed: true, ..word };
        self.replace(word.pack(), probed).then(|| Probe(probed.pack()))
    }

    /// It is ejected no more.
    pub(crate) fn readmit(&self, probe: Probe) {
        let healthy = Word { times: 0, is_probed: false, until: Ticks::new(0) };
        self.replace(probe.0, healthy);
    }

    /// Nothing came of its probe: somebody else may make one.
    pub(crate) fn release(&self, probe: Probe) {
        self.replace(probe.0, Word { is_probed: false, ..Word::unpack(probe.0) });
    }

    /// Gives it no calls for a while: the longer the more often in a row. `None` if it is ejected already.
    pub(crate) fn eject(&self, ejection: &Ejection, now: Ticks) -> Option<Duration> {
        let word = self.word();
        if word.times > 0 && now < word.until {
            return None;
        }
        let doubled = ejection.base.saturating_mul(2_u32.saturating_pow(word.times.into()));
        // Else all clients would probe it at the same moment.
        let jitter = 0.8 + 0.4 * fastrand::f64();
        let duration = doubled.min(ejection.max).min(LONGEST).mul_f64(jitter);
        let times = word.times.saturating_add(1);
        let ejected = Word { times, is_probed: false, until: now.plus(duration) };
        self.replace(word.pack(), ejected).then_some(duration)
    }

    fn word(&self) -> Word {
        Word::unpack(self.0.load(Ordering::Relaxed))
    }

    fn replace(&self, held: u64, next: Word) -> bool {
        let (ok, no) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.compare_exchange(held, next.pack(), ok, no).is_ok()
    }
}

/// Longer than that, an ejection is none that anybody waits for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Word {
    const PROBED: u64 = 1 << 55;

    fn awaits_probe(self, now: Ticks) -> bool {
        self.times > 0 && now >= self.until && !self.is_probed
    }

    /// Times in the first 8 bits, until in the last 55, which hold 11,000 years.
    fn pack(self) -> u64 {
        let probed = if self.is_probed { Self::PROBED } else { 0 };
        u64::from(self.times) << 56 | probed | self.until.get()
    }

    #[allow(clippy::cast_possible_truncation)] // the first 8 bits
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

    fn at(millis: u64) -> Ticks {
        Ticks::of(Duration::from_millis(millis))
    }

    fn ejection(base: u64, max: u64) -> Ejection {
        let [base, max] = [base, max].map(Duration::from_millis);
        Ejection { base, max, ..Ejection::default() }
    }

    #[test]
    fn an_ejected_endpoint_gets_one_call_to_show_that_it_serves_again() {
        let standing = Standing::default();
        assert!(standing.is_usable(at(0)) && standing.probe(at(0)).is_none());
        let ejection = ejection(1_000, 60_000);
        let first = standing.eject(&ejection, at(0)).unwrap();
        assert!((800..=1_200).contains(&first.as_millis()), "{first:?}");
        assert!(standing.eject(&ejection, at(5)).is_none(), "it is ejected already");
        assert!(standing.is_ejected(at(799)) && !standing.is_usable(at(799)));

        assert!(standing.is_usable(at(1_201)) && !standing.is_ejected(at(1_201)));
        let probe = standing.probe(at(1_201)).unwrap();
        assert!(!standing.is_usable(at(1_202)) && standing.probe(at(1_202)).is_none(), "one call");
        standing.release(probe);
        let probe = standing.probe(at(1_203)).expect("nothing came of the first");
        let second = standing.eject(&ejection, at(1_204)).unwrap();
        assert!((1_600..=2_400).contains(&second.as_millis()), "{second:?}");
        standing.readmit(probe);
        standing.release(probe);
        assert!(standing.is_ejected(at(1_205)), "an old probe has nothing to say");

        let probe = standing.probe(at(5_000)).unwrap();
        standing.readmit(probe);
        assert!(standing.is_usable(at(5_000)) && standing.probe(at(5_000)).is_none());
        let again = standing.eject(&ejection, at(6_000)).unwrap();
        assert!(again.as_millis() <= 1_200, "it had recovered: {again:?}");
    }

    #[test]
    fn an_ejection_is_over_however_much_later() {
        let standing = Standing::default();
        standing.eject(&ejection(1_000, 1_000), at(0)).unwrap();
        let days = |days: u64| at(days * 24 * 3_600_000);
        assert!([1, 3, 60, 4_000].into_iter().all(|n| standing.is_usable(days(n))));
    }

    #[test]
    fn the_longest_is_the_longest_even_after_hundreds_in_a_row() {
        let (standing, ejection) = (Standing::default(), ejection(1_000, 30_000));
        for n in 0..600 {
            let duration = standing.eject(&ejection, at(n * 100_000)).unwrap();
            assert!(duration.as_millis() <= 36_000, "{duration:?}");
        }
        assert!(
            Standing::default()
                .eject(&Ejection { base: Duration::MAX, max: Duration::MAX, failures: 1 }, at(1))
                .is_some()
        );
    }
}
