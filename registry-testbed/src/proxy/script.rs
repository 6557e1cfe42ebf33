//! Faults on a schedule.

use super::fault::Fault;
use std::fmt;
use std::time::Duration;

/// What happens to a proxy when. Printed, it is one line for each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    steps: Vec<(Duration, Step)>,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// See [`Proxy::inject`](super::Proxy::inject).
    Inject(Fault),
    /// See [`Proxy::lose_replies`](super::Proxy::lose_replies).
    LoseReplies,
    /// See [`Proxy::cut`](super::Proxy::cut).
    Cut,
    /// See [`Proxy::reset`](super::Proxy::reset).
    Reset,
    /// See [`Proxy::heal`](super::Proxy::heal).
    Heal,
}

impl Script {
    /// One in which nothing happens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what happens at a time, counted from the start. At the same time, in the order added.
    #[must_use]
    pub fn at(mut self, at: Duration, step: Step) -> Self {
        let place = self.steps.partition_point(|(other, _)| *other <= at);
        self.steps.insert(place, (at, step));
        self
    }

    /// Bad days: faults of 20 to 400 ms each, with health between most of them, healed at `length`.
    ///
    /// A seed and a length have one script for ever, whatever changes elsewhere. A longer one
    /// begins like a shorter one of the same seed, but for its end.
    pub fn random(seed: u64, length: Duration) -> Self {
        let mut random = SplitMix(seed);
        let mut script = Self::new();
        let mut at = random.millis(0, 100);
        loop {
            let (first, second) = random.steps();
            let end = at + random.millis(20, 400);
            if end >= length {
                return script.at(length, Step::Heal);
            }
            script = script.at(at, first);
            if let Some(second) = second {
                script = script.at(at, second);
            }
            at = end;
            // Replies go on to be lost whatever is injected, so that nothing else would happen.
            let heals = match first {
                Step::LoseReplies => true,
                Step::Inject(_) => random.between(0, 3) > 0,
                _ => false,
            };
            if heals {
                script = script.at(end, Step::Heal);
                at += random.millis(20, 200);
            }
        }
    }

    /// The steps in order, each with its time from the start.
    pub fn steps(&self) -> &[(Duration, Step)] {
        &self.steps
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in &self.steps {
            writeln!(f, "{at:?}: {step:?}")?;
        }
        Ok(())
    }
}

/// A generator that is ours, since those of others change: `SplitMix64`, as in Java's
/// `SplittableRandom`.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Any of `least..=most`. That some are likelier by a hair does not matter here.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn small(&mut self, least: u64, most: u64) -> usize {
        usize::try_from(self.between(least, most)).expect("a small number")
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// What happens at once: one thing, or that and what goes with it.
    fn steps(&mut self) -> (Step, Option<Step>) {
        let fault = match self.between(0, 19) {
            0..4 => Fault::Delay { each: self.millis(1, 50), jitter: self.millis(0, 50) },
            4..6 => {
                let bytes_per_second = u32::try_from(self.between(1, 100)).expect("small") * 1000;
                Fault::Throttle { bytes_per_second }
            }
            6..9 => Fault::Blackhole,
            9..12 => Fault::Slice { bytes: self.small(1, 100) },
            12..14 => Fault::CutAfter { bytes: self.small(0, 2000) },
            // A server that was stopped, that was killed, or that takes no more clients.
            14 => return (Step::Inject(Fault::Refuse), Some(Step::Cut)),
            15 => return (Step::Inject(Fault::Refuse), Some(Step::Reset)),
            16 => Fault::AcceptThenReset,
            17 => return (Step::Cut, None),
            18 => return (Step::Reset, None),
            _ => return (Step::LoseReplies, None),
        };
        (Step::Inject(fault), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::mem::discriminant;

    const SCRIPT_1: &str = "\
15ms: LoseReplies
200ms: Heal
350ms: Inject(Delay { each: 49ms, jitter: 42ms })
604ms: Inject(Slice { bytes: 38 })
661ms: Inject(Delay { each: 17ms, jitter: 17ms })
1.023s: Heal
1.113s: Inject(CutAfter { bytes: 1657 })
1.454s: Heal
1.513s: Inject(Delay { each: 10ms, jitter: 31ms })
1.544s: Heal
1.699s: Inject(AcceptThenReset)
1.926s: Heal
2.105s: Inject(Refuse)
2.105s: Reset
2.136s: Heal
2.306s: Inject(Blackhole)
2.378s: Heal
2.497s: Inject(Refuse)
2.497s: Reset
2.804s: Heal
3s: Heal
";

    #[test]
    fn the_same_seed_is_the_same_script_for_ever() {
        let script = Script::random(7, Duration::from_secs(1));
        assert_eq!(script, Script::random(7, Duration::from_secs(1)));
        assert_ne!(script, Script::random(8, Duration::from_secs(1)));
        assert_eq!(Script::random(1, Duration::from_secs(3)).to_string(), SCRIPT_1);
    }

    #[test]
    fn a_random_script_is_in_order_and_ends_healed() {
        for (seed, millis) in (0..200).flat_map(|seed| [(seed, 0), (seed, 10), (seed, 5000)]) {
            let length = Duration::from_millis(millis);
            let script = Script::random(seed, length);
            assert!(script.steps().is_sorted_by_key(|(at, _)| *at), "{script}");
            assert_eq!(script.steps().last(), Some(&(length, Step::Heal)), "{script}");
        }
    }

    #[test]
    fn random_scripts_have_everything_in_them() {
        let scripts = (0..100).map(|seed| Script::random(seed, Duration::from_secs(5)));
        let steps: Vec<_> = scripts.flat_map(|script| script.steps().to_vec()).collect();
        let faults: HashSet<_> = steps
            .iter()
            .filter_map(|(_, step)| match step {
                Step::Inject(fault) => Some(discriminant(fault)),
                _ => None,
            })
            .collect();
        assert_eq!(faults.len(), 7, "all but Pass");
        let kinds: HashSet<_> = steps.iter().map(|(_, step)| discriminant(step)).collect();
        assert_eq!(kinds.len(), 5);
    }

    #[test]
    fn steps_at_the_same_time_stay_in_order() {
        let [one, two] = [1, 2].map(Duration::from_secs);
        let script = Script::new().at(two, Step::Cut).at(one, Step::Reset).at(two, Step::Heal);
        assert_eq!(script.steps(), [(one, Step::Reset), (two, Step::Cut), (two, Step::Heal)]);
        assert_eq!(script.to_string(), "1s: Reset\n2s: Cut\n2s: Heal\n");
    }
}
