//! A schedule of faults.

use super::fault::Fault;
use std::fmt;
use std::time::Duration;

/// A schedule of steps for a proxy. Its display has one line for each step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    steps: Vec<(Duration, Step)>,
}

/// A step of a [`Script`].
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
    /// Creates a script without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step at a time, counted from the start. Steps at the same time keep the order in which they are added.
    #[must_use]
    pub fn at(mut self, at: Duration, step: Step) -> Self {
        let place = self.steps.partition_point(|(other, _)| *other <= at);
        self.steps.insert(place, (at, step));
        self
    }

    /// Creates a random script: faults of 20 to 400 ms, most of them with a healthy time after them, healed at
    /// `length`.
    ///
    /// The script depends only on the seed and the length, also in later releases. A longer script starts like a
    /// shorter one of the same seed, except for its end.
    pub fn random(seed: u64, length: Duration) -> Self {
        let mut random = SplitMix(seed);
        let mut script = Self::new();
        let mut time = random.millis(0, 100);
        loop {
            let (first, second) = random.steps();
            let end = time + random.millis(20, 400);
            if end >= length {
                return script.at(length, Step::Heal);
            }
            script = script.at(time, first);
            if let Some(second) = second {
                script = script.at(time, second);
            }
            time = end;
            // Always heal lost replies: they would hide the effects of later faults.
            let heals = match first {
                Step::LoseReplies => true,
                Step::Inject(_) => random.between(0, 3) > 0,
                _ => false,
            };
            if heals {
                script = script.at(end, Step::Heal);
                time += random.millis(20, 200);
            }
        }
    }

    /// Returns the steps in order, each with its time from the start.
    pub fn steps(&self) -> &[(Duration, Step)] {
        &self.steps
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (time, step) in &self.steps {
            writeln!(f, "{time:?}: {step:?}")?;
        }
        Ok(())
    }
}

/// `SplitMix64`, as in Java's `SplittableRandom`. It is implemented here, since the generator of a library may change.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number in `least..=most`. The slight bias of the modulus does not matter.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn small(&mut self, least: u64, most: u64) -> usize {
        usize::try_from(self.between(least, most)).expect("a small number")
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    /// Returns a random step, and a second one at the same time if it needs one.
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
            // A server that shuts down (14), is killed (15), or accepts no more clients (16).
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
    fn script_of_a_seed_never_changes() {
        let script = Script::random(7, Duration::from_secs(1));
        assert_eq!(script, Script::random(7, Duration::from_secs(1)));
        assert_ne!(script, Script::random(8, Duration::from_secs(1)));
        assert_eq!(Script::random(1, Duration::from_secs(3)).to_string(), SCRIPT_1);
    }

    #[test]
    fn random_script_is_in_order_and_ends_with_a_heal() {
        for (seed, millis) in (0..200).flat_map(|seed| [(seed, 0), (seed, 10), (seed, 5000)]) {
            let length = Duration::from_millis(millis);
            let script = Script::random(seed, length);
            assert!(script.steps().is_sorted_by_key(|(at, _)| *at), "{script}");
            assert_eq!(script.steps().last(), Some(&(length, Step::Heal)), "{script}");
        }
    }

    #[test]
    fn random_scripts_cover_all_steps_and_random_faults() {
        let scripts = (0..100).map(|seed| Script::random(seed, Duration::from_secs(5)));
        let steps: Vec<_> = scripts.flat_map(|script| script.steps().to_vec()).collect();
        let faults: HashSet<_> = steps
            .iter()
            .filter_map(|(_, step)| match step {
                Step::Inject(fault) => Some(discriminant(fault)),
                _ => None,
            })
            .collect();
        assert_eq!(faults.len(), 7, "kinds of random faults");
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
