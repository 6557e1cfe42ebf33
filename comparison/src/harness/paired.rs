//! Paired comparison of two ways to do the same, so that noise of the machine cancels out.
//!
//! Absolute times drift by more than the difference that is looked for, so the ways take turns at every
//! single operation, and each round gives a ratio of its own. One of them then takes turns with itself: what
//! that shows is the floor, below which a difference means nothing.

use crate::workloads::{Contender, Runner, Workload};
use anyhow::Result;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many rounds, each giving a ratio, after one to warm up. An odd number has a median that was
    /// measured.
    pub rounds: usize,
    /// How long a round lasts, half of it for the two and half of it for the one with itself.
    pub round: Duration,
    /// How many turns each half has at least, however long they take.
    pub turns: usize,
    /// How many operations a turn is: more than one where the clock would weigh.
    pub batch: u32,
}

/// What one round measured: the seconds per operation, turn by turn.
#[derive(Clone, Debug)]
pub struct Round {
    /// Of the first and the second in turns.
    pub pair: [Vec<f64>; 2],
    /// Of the second and the second again in turns.
    pub same: [Vec<f64>; 2],
}

/// The median of a number of rounds, with the least and the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// What a paired run shows of one against the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// The first, in seconds per operation: the median over the rounds' medians, as all here.
    pub first: f64,
    /// The second.
    pub second: f64,
    /// The first as a multiple of the second.
    pub ratio: Spread,
    /// The second as a multiple of itself.
    pub floor: Spread,
}

impl Comparison {
    /// Sums up rounds, of which there is at least one.
    pub fn new(rounds: &[Round]) -> Self {
        let pairs: Vec<_> = rounds.iter().map(|round| medians(&round.pair)).collect();
        let same = rounds.iter().map(|round| medians(&round.same));
        Self {
            first: Spread::of(pairs.iter().map(|[first, _]| *first)).median,
            second: Spread::of(pairs.iter().map(|[_, second]| *second)).median,
            ratio: Spread::of(pairs.iter().map(|[first, second]| first / second)),
            floor: Spread::of(same.map(|[second, again]| again / second)),
        }
    }
}

/// How long to measure a call of a figure.
pub fn plan(quick: bool) -> Plan {
    if quick {
        Plan { rounds: 3, round: Duration::from_millis(100), turns: 3, batch: 1 }
    } else {
        Plan { rounds: 21, round: Duration::from_secs(1), turns: 3, batch: 1 }
    }
}

/// Compares runners: the first with the second. The third does what the second does. Returns the rounds.
pub async fn compare(mut runners: [Runner; 3], plan: Plan) -> Result<Vec<Round>> {
    let mut rounds = Vec::with_capacity(plan.rounds);
    round(&mut runners, plan).await?; // warms up
    for _ in 0..plan.rounds {
        rounds.push(round(&mut runners, plan).await?);
    }
    finish(runners).await?;
    Ok(rounds)
}

/// Compares runners that are made anew for each round: one connection differs from another by some percent, for
/// as long as it lasts.
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

/// Prepares a workload for two contenders, and for the second again.
pub async fn prepare(
    [first, second, again]: [&dyn Contender; 3],
    workload: Workload,
) -> Result<[Runner; 3]> {
    Ok([
        Runner::prepare("the first", first, workload).await?,
        Runner::prepare("the second", second, workload).await?,
        Runner::prepare("the second, again", again, workload).await?,
    ])
}

async fn finish(runners: [Runner; 3]) -> Result<()> {
    for runner in runners {
        runner.finish().await?;
    }
    Ok(())
}

async fn round([first, second, again]: &mut [Runner; 3], plan: Plan) -> Result<Round> {
    let pair = turns([first, second], plan).await?;
    let same = turns([second, again], plan).await?;
    Ok(Round { pair, same })
}

/// Takes a sample of each of `N` arms in each round, after a round that warmed up. Who starts rotates.
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

/// Half a round. Who starts rotates, so that of two each is preceded by the other as often as by
/// itself: what was done last is still in the caches.
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
    /// Of at least one figure. Of an even number the median is the mean of the two in the middle.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (last, half) = (sorted.len() - 1, sorted.len() / 2);
        Self {
            median: f64::midpoint(sorted[half], sorted[last - half]),
            min: sorted[0],
            max: sorted[last],
        }
    }

    /// Describes the maximum, with a unit: `none`, or at most so many.
    pub fn at_most(self, unit: &str) -> String {
        let tenths = (self.max * 10.0).ceil() / 10.0;
        if tenths > 0.0 { format!("up to {tenths} {unit}") } else { "none".to_owned() }
    }

    /// Rounds to so many decimals.
    #[must_use]
    pub fn rounded(self, digits: i32) -> Self {
        let unit = 10f64.powi(digits);
        let [median, min, max] =
            [self.median, self.min, self.max].map(|figure| (figure * unit).round() / unit);
        Self { median, min, max }
    }

    /// Of a thing with itself: whether the machine was quiet enough to see it the same, within 2 %.
    pub fn is_sound(&self) -> bool {
        (0.98..=1.02).contains(&self.median)
    }
}

/// `5 (3..9)`, or `5` where they are all the same.
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
        // Each round is ten times slower than the last: the ratio of all medians would say nothing.
        let round = |slow: f64, ratio: f64, floor: f64| Round {
            pair: [vec![slow * ratio, slow * ratio * 9.0, 0.0], vec![slow; 4]],
            same: [vec![slow; 3], vec![slow * floor; 2]],
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
