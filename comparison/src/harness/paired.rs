//! Paired comparison of two arms, which cancels out the noise of the machine.
//!
//! Absolute times drift by more than the difference of interest. So the arms alternate at every operation, and each
//! round gives its own ratio. One arm also alternates with itself: a difference below that floor means nothing.

use crate::workloads::{Contender, Runner, Workload};
use anyhow::Result;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The number of rounds after the warm-up. With an odd number the median is a measured ratio.
    pub rounds: usize,
    /// The length of a round. The first half compares the arms, and the second half the second arm with itself.
    pub round: Duration,
    /// The minimum number of turns in each half.
    pub turns: usize,
    /// The number of operations in a turn. More than one hides the cost of reading the clock.
    pub batch: u32,
}

/// The seconds per operation in each turn of one round.
#[derive(Clone, Debug)]
pub struct Round {
    /// The first and the second arm.
    pub pair: [Vec<f64>; 2],
    /// Two samples of the second arm, which differ only by noise.
    pub same: [Vec<f64>; 2],
}

/// The median of figures, with the minimum and maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The seconds per operation of the first arm: the median of the medians of the rounds.
    pub first: f64,
    pub second: f64,
    /// The first arm as a multiple of the second.
    pub ratio: Spread,
    /// The second arm as a multiple of itself.
    pub floor: Spread,
}

impl Comparison {
    /// Evaluates one or more rounds.
    pub fn new(rounds: &[Round]) -> Self {
        let pairs: Vec<_> = rounds.iter().map(|round| medians(&round.pair)).collect();
        let same = rounds.iter().map(|round| medians(&round.same));
        Self {
            first: Spread::of(pairs.iter().map(|[first, _]| *first)).median,
            second: Spread::of(pairs.iter().map(|[_, second]| *second)).median,
            ratio: Spread::of(pairs.iter().map(|[first, second]| first / second)),
            floor: Spread::of(same.map(|[second, control]| control / second)),
        }
    }
}

/// Returns the usual plan for a figure.
pub fn plan(quick: bool) -> Plan {
    if quick {
        Plan { rounds: 3, round: Duration::from_millis(100), turns: 3, batch: 1 }
    } else {
        Plan { rounds: 21, round: Duration::from_secs(1), turns: 3, batch: 1 }
    }
}

/// Compares the first runner with the second, and the second with the third, which must do the same as the second.
pub async fn compare(mut runners: [Runner; 3], plan: Plan) -> Result<Vec<Round>> {
    let mut rounds = Vec::with_capacity(plan.rounds);
    round(&mut runners, plan).await?; // warms up
    for _ in 0..plan.rounds {
        rounds.push(round(&mut runners, plan).await?);
    }
    finish(runners).await?;
    Ok(rounds)
}

/// Compares runners with new connections in each round, because connections differ from each other by some percent.
pub async fn compare_anew(
    plan: Plan,
    runners: impl AsyncFn() -> Result<[Runner; 3]>,
) -> Result<Comparison> {
    let mut rounds = Vec::with_capacity(plan.rounds);
    for _ in 0..plan.rounds {
        let mut runners = runners().await?;
        round(&mut runners, Plan { round: plan.round / 3, ..plan }).await?;
        rounds.push(round(&mut runners, plan).await?);
        finish(runners).await?;
    }
    Ok(Comparison::new(&rounds))
}

pub async fn prepare(
    [first, second, control]: [&dyn Contender; 3],
    workload: Workload,
) -> Result<[Runner; 3]> {
    Ok([
        Runner::prepare("the first", first, workload).await?,
        Runner::prepare("the second", second, workload).await?,
        Runner::prepare("the control", control, workload).await?,
    ])
}

async fn finish(runners: [Runner; 3]) -> Result<()> {
    for runner in runners {
        runner.finish().await?;
    }
    Ok(())
}

async fn round([first, second, control]: &mut [Runner; 3], plan: Plan) -> Result<Round> {
    let pair = turns([first, second], plan).await?;
    let same = turns([second, control], plan).await?;
    Ok(Round { pair, same })
}

/// Takes a sample of each of `N` arms in each round, after a warm-up round. The arm that is first in a round rotates.
pub async fn in_turns<const N: usize>(
    rounds: usize,
    mut sample: impl AsyncFnMut(usize) -> Result<f64>,
) -> Result<[Vec<f64>; N]> {
    let mut samples = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for place in 0..N {
            let arm = (round + place) % N;
            let taken = sample(arm).await?;
            if round > 0 {
                samples[arm].push(taken);
            }
        }
    }
    Ok(samples)
}

/// Runs half a round. The runner that is first in a turn rotates, so that each of two runners follows the other as
/// often as itself: caches still hold the data of the previous operation.
async fn turns<const N: usize>(runners: [&mut Runner; N], plan: Plan) -> Result<[Vec<f64>; N]> {
    let mut samples = [const { Vec::new() }; N];
    let end = Instant::now() + plan.round / 2;
    let mut turn = 0;
    while turn < plan.turns || Instant::now() < end {
        for place in 0..N {
            let runner = (turn + place) % N;
            let took = runners[runner].time(plan.batch.into()).await?;
            samples[runner].push(took.as_secs_f64() / f64::from(plan.batch));
        }
        turn += 1;
    }
    Ok(samples)
}

fn medians<const N: usize>(samples: &[Vec<f64>; N]) -> [f64; N] {
    samples.each_ref().map(|samples| Spread::of(samples.iter().copied()).median)
}

impl Spread {
    /// Evaluates one or more figures. The median of an even number of figures is the mean of the middle two.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (last, half) = (sorted.len() - 1, sorted.len() / 2);
        let median = f64::midpoint(sorted[half], sorted[last - half]);
        Self { median, min: sorted[0], max: sorted[last] }
    }

    /// Describes the maximum: `none`, or `up to 3.1 %`.
    pub fn at_most(self, unit: &str) -> String {
        let tenths = (self.max * 10.0).ceil() / 10.0;
        if tenths > 0.0 { format!("up to {tenths} {unit}") } else { "none".to_owned() }
    }

    /// Rounds to a number of decimals.
    #[must_use]
    pub fn rounded(self, digits: i32) -> Self {
        let unit = 10f64.powi(digits);
        let round = |figure: f64| (figure * unit).round() / unit;
        Self { median: round(self.median), min: round(self.min), max: round(self.max) }
    }

    /// Returns whether the machine was quiet: the ratio of an arm to itself is within 2 % of 1.
    pub fn is_sound(&self) -> bool {
        (0.98..=1.02).contains(&self.median)
    }
}

/// `5 (3..9)`, or `5` if all figures are equal.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.median)?;
        if self.min < self.max { write!(f, " ({}..{})", self.min, self.max) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workloads::Timed;
    use async_trait::async_trait;
    use std::cell::RefCell;
    use std::rc::Rc;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        let odd = Spread::of([3.0, 1.0, 9.0]);
        assert_eq!(odd, Spread { median: 3.0, min: 1.0, max: 9.0 });
        assert!(close(Spread::of([4.0, 1.0, 2.0, 9.0].into_iter()).median, 3.0));
        assert!(close(Spread::of([5.0].into_iter()).median, 5.0));
    }

    #[test]
    fn ratios_are_per_round_so_that_drift_cancels_out() {
        // Each round is ten times slower than the previous one, so the ratio of all medians would say nothing.
        let round = |time: f64, ratio: f64, floor: f64| Round {
            pair: [vec![time * ratio, time * ratio * 9.0, 0.0], vec![time; 4]],
            same: [vec![time; 3], vec![time * floor; 2]],
        };
        let rounds = [round(1.0, 1.5, 1.01), round(10.0, 1.2, 0.97), round(100.0, 1.3, 1.0)];
        let figures = Comparison::new(&rounds);
        assert!(close(figures.first, 12.0) && close(figures.second, 10.0), "{figures:?}");
        let Spread { median, min, max } = figures.ratio;
        assert!(close(median, 1.3) && close(min, 1.2) && close(max, 1.5), "{figures:?}");
        let Spread { median, min, max } = figures.floor;
        assert!(close(median, 1.0) && close(min, 0.97) && close(max, 1.01), "{figures:?}");
        assert!(figures.floor.is_sound());
        assert!(!Comparison::new(&[round(1.0, 1.0, 1.1)]).floor.is_sound());
    }

    /// A workload that takes a given time, and logs its name.
    struct Fake {
        name: char,
        seconds: u32,
        log: Rc<RefCell<String>>,
    }

    #[async_trait(?Send)]
    impl Timed for Fake {
        async fn time(&mut self, n: u64) -> Result<Duration> {
            self.log.borrow_mut().push(self.name);
            Ok(Duration::from_secs(u64::from(self.seconds) * n))
        }
    }

    #[tokio::test]
    async fn runners_alternate_and_the_first_one_rotates() {
        let log = Rc::default();
        let runner =
            |name, seconds| Runner::new(name, Fake { name, seconds, log: Rc::clone(&log) });
        let runners = [runner('a', 3), runner('b', 2), runner('c', 2)];
        let plan = Plan { rounds: 1, round: Duration::ZERO, turns: 3, batch: 10 };
        let figures = Comparison::new(&compare(runners, plan).await.unwrap());
        assert_eq!(*log.borrow(), "abbaabbccbbcabbaabbccbbc");
        assert!(close(figures.first, 3.0) && close(figures.ratio.median, 1.5), "{figures:?}");
        assert!(close(figures.floor.max, 1.0) && figures.floor.is_sound(), "{figures:?}");
    }
}
