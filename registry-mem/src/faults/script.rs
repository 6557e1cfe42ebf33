//! Faults in order of time.

use super::dice::Dice;
use super::fault::{Code, Fault};
use std::fmt;
use std::time::Duration;

/// Which faults begin and end when, counted from the start of the script.
///
/// Steps are kept in order of time, those of the same time in the order they were added. It shows
/// itself as Rust code: a random script that found a bug is pasted into a test.
///
/// ```
/// use registry_mem::{Fault, Script};
/// use std::time::Duration;
///
/// let script = Script::new()
///     .at(Duration::from_secs(1), Fault::Outage)
///     .heal_at(Duration::from_secs(3));
/// assert_eq!(
///     script.to_string(),
///     "Script::new()
///     .at(Duration::from_millis(1000), Fault::Outage)
///     .heal_at(Duration::from_millis(3000))"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

/// What happens at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at: Duration,
    /// What to inject; `None` is to heal.
    pub(super) fault: Option<Fault>,
}

/// A pause between two faults, and how long one holds, as fractions of a random script.
const SHORTEST: u32 = 40;
const LONGEST: u32 = 8;

impl Script {
    /// A script in which nothing happens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds that `fault` is injected `offset` after the start.
    #[must_use]
    pub fn at(self, offset: Duration, fault: Fault) -> Self {
        self.with(Step { at: offset, fault: Some(fault) })
    }

    /// Adds that all ongoing faults end `offset` after the start.
    #[must_use]
    pub fn heal_at(self, offset: Duration) -> Self {
        self.with(Step { at: offset, fault: None })
    }

    /// Draws a mix of faults: calm and trouble in turn, now and then two troubles at once.
    /// Everything is healed `length` after the start, which is the last step. A checkpoint comes
    /// before each rollback, so that one loses some writes and not all.
    ///
    /// The same seed and length give the same script, in later versions too.
    pub fn random(seed: u64, length: Duration) -> Self {
        let mut dice = Dice::new(seed);
        let mut script = Self::new().at(Duration::ZERO, Fault::Checkpoint);
        let mut now = Duration::ZERO;
        while now < length {
            now = now.saturating_add(pause(&mut dice, length));
            if dice.below(2) == 0 {
                script = script.at(now, at_once(&mut dice));
                continue;
            }
            script = script.at(now, ongoing(&mut dice));
            if dice.below(4) == 0 {
                now = now.saturating_add(pause(&mut dice, length));
                script = script.at(now, ongoing(&mut dice));
            }
            now = now.saturating_add(pause(&mut dice, length));
            script = script.heal_at(now);
        }
        script.steps.retain(|step| step.at < length);
        script.heal_at(length)
    }

    /// When the last step is due.
    pub fn length(&self) -> Duration {
        self.steps.last().map_or(Duration::ZERO, |step| step.at)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn with(mut self, step: Step) -> Self {
        let place = self.steps.partition_point(|other| other.at <= step.at);
        self.steps.insert(place, step);
        self
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script::new()")?;
        for Step { at, fault } in &self.steps {
            match fault {
                Some(fault) => write!(f, "\n    .at({}, {fault})", Code(*at))?,
                None => write!(f, "\n    .heal_at({})", Code(*at))?,
            }
        }
        Ok(())
    }
}

/// In whole milliseconds, as tokio's clock has them, and never none.
fn pause(dice: &mut Dice, length: Duration) -> Duration {
    let pause = dice.between(length / SHORTEST, length / LONGEST);
    millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn ongoing(dice: &mut Dice) -> Fault {
    match dice.below(5) {
        0 => Fault::Outage,
        1 => Fault::Silence,
        2 => Fault::LostReplies,
        3 => Fault::SlowWatch { delay: millis(10 + dice.below(500)) },
        _ => {
            let min = millis(1 + dice.below(50));
            Fault::Latency { min, max: min + millis(dice.below(150)) }
        }
    }
}

fn at_once(dice: &mut Dice) -> Fault {
    match dice.below(6) {
        0 | 1 => Fault::Cut,
        2 => Fault::LeaseLost,
        3 => Fault::Compaction,
        4 => Fault::Rollback,
        _ => Fault::Checkpoint,
    }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::mem::discriminant;

    // Written down. Should it differ, seeds in old bug reports have lost their meaning.
    const SEED_42: &str = "Script::new()
    .at(Duration::from_millis(0), Fault::Checkpoint)
    .at(Duration::from_millis(325), Fault::SlowWatch { delay: Duration::from_millis(274) })
    .heal_at(Duration::from_millis(1222))
    .at(Duration::from_millis(2220), Fault::Cut)
    .at(Duration::from_millis(3311), Fault::Silence)
    .heal_at(Duration::from_millis(3674))
    .at(Duration::from_millis(4895), Fault::Checkpoint)
    .at(Duration::from_millis(5750), Fault::SlowWatch { delay: Duration::from_millis(382) })
    .heal_at(Duration::from_millis(6839))
    .at(Duration::from_millis(7452), Fault::Compaction)
    .at(Duration::from_millis(8402), Fault::SlowWatch { delay: Duration::from_millis(21) })
    .heal_at(Duration::from_millis(8950))
    .at(Duration::from_millis(9264), Fault::Cut)
    .heal_at(Duration::from_millis(10000))";

    #[test]
    fn the_same_seed_gives_the_same_script_for_ever() {
        let script = Script::random(42, Duration::from_secs(10));
        assert_eq!(script.to_string(), SEED_42);
        assert_eq!(script, Script::random(42, Duration::from_secs(10)));
        assert_ne!(script, Script::random(43, Duration::from_secs(10)));
    }

    #[test]
    fn random_scripts_are_in_order_have_every_kind_of_fault_and_end_healed() {
        let mut kinds = HashSet::new();
        for seed in 0..200 {
            for length in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(30)] {
                let script = Script::random(seed, length);
                let steps = script.steps();
                assert!(steps.is_sorted_by_key(|step| step.at), "{script}");
                assert_eq!(steps.last(), Some(&Step { at: length, fault: None }), "{script}");
                assert_eq!(script.length(), length);
                kinds.extend(steps.iter().filter_map(|step| step.fault.as_ref().map(discriminant)));
            }
        }
        assert_eq!(kinds.len(), 10);
    }

    #[test]
    fn steps_of_the_same_time_stay_in_the_order_they_were_added() {
        let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
        let script = Script::new().heal_at(two).at(one, Fault::Cut).at(one, Fault::Outage);
        let faults: Vec<_> = script.steps().iter().map(|step| step.fault).collect();
        assert_eq!(faults, [Some(Fault::Cut), Some(Fault::Outage), None]);
    }

    #[test]
    fn a_script_shows_itself_as_code() {
        let odd = Duration::new(1, 500);
        let slow = Fault::SlowWatch { delay: odd };
        assert_eq!(slow.to_string(), "Fault::SlowWatch { delay: Duration::new(1, 500) }");
    }
}
