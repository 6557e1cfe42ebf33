//! One partition: which writes were acknowledged on both sides, and which instances callers saw.

use super::clients::{Client, ClientArm, Clients};
use super::deployment::{Deployment, Topology};
use crate::harness::StoreOptions;
use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How many instances live on the majority side all the time.
pub(super) const LIVE: usize = 10;

/// How many instances start on the minority side a second after the partition.
pub(super) const LATE: usize = 5;

/// How long the run lasts before the partition, and after it.
const BEFORE: Duration = Duration::from_secs(1);
pub(super) const AFTER: Duration = Duration::from_secs(5);

/// The time between two writes, on each side.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);

/// The least time that the majority side is unavailable for writes: a failover takes a second.
const MIN_UNAVAILABILITY: Duration = Duration::from_millis(500);

/// How long a client waits for a write, with its own retries, before it gives up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The time between two samples of what callers see.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// How long all instances may take to be listed at the start, and the list to be read at the end.
const LIST_TIMEOUT: Duration = Duration::from_secs(20);

/// The result of one arm in one partition.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    /// Writes that began after the cut and were acknowledged on the minority side. `None` where no client writes there.
    pub(super) minority_writes: Option<usize>,
    /// Acknowledged writes of both sides that are missing at the end.
    pub(super) lost: usize,
    /// Of the lost, the writes acknowledged before the cut.
    pub(super) lost_from_before: usize,
    /// All writes acknowledged on the majority side.
    pub(super) majority_writes: usize,
    /// The longest time without an acknowledged write on the majority side, in seconds.
    pub(super) unavailability: f64,
    /// Records on the majority side that were unlisted at some time.
    pub(super) unlisted: usize,
    /// The longest time that one of them was unlisted, in seconds.
    pub(super) longest_absence: f64,
    /// Records started on the minority side that are listed at the end. `None` where none starts there.
    pub(super) late: Option<usize>,
    /// How many live instances are listed on the majority side: seconds after the start, and the count.
    pub(super) listed: Vec<(f64, usize)>,
}

/// The times of the fault.
struct Timeline {
    start: Instant,
    cut: Cell<Option<Instant>>,
    healed: Cell<Option<Instant>>,
    is_healed: Arc<AtomicBool>,
}

/// One arm, and the record of its writes and samples.
struct ArmTrial {
    clients: Clients,
    seen: RefCell<BTreeSet<String>>,
    minority: RefCell<Vec<Write>>,
    majority: RefCell<Vec<Write>>,
    samples: RefCell<Vec<(Instant, BTreeSet<String>)>>,
}

/// A write that was acknowledged.
struct Write {
    begun: Instant,
    at: Instant,
    id: String,
}

/// Partitions the primary or leader for `length`, under all arms at once.
pub(super) async fn once(
    topology: Topology,
    at: &StoreOptions,
    length: Duration,
) -> Result<BTreeMap<ClientArm, Run>> {
    let mut deployment = Deployment::start(topology, at).await?;
    let one = deployment.primary().await?;
    let is_healed = Arc::new(AtomicBool::new(false));
    let mut trials = BTreeMap::new();
    for arm in ClientArm::on(topology) {
        let clients = Clients::open(*arm, &deployment, one, &is_healed).await?;
        trials.insert(*arm, Rc::new(ArmTrial::new(clients)));
    }
    let living = trials.values().flat_map(|trial| {
        (0..LIVE).map(async |n| trial.clients.majority.keep_registered(&live(n)).await)
    });
    let following =
        trials.values().map(async |trial| trial.clients.majority.follow(&trial.seen).await);
    let scenario = async {
        let all: BTreeSet<String> = (0..LIVE).map(live).collect();
        for (arm, trial) in &trials {
            let listed = async {
                while !trial.seen.borrow().is_superset(&all) {
                    sleep(SAMPLE_INTERVAL).await;
                }
            };
            let listed = timeout(LIST_TIMEOUT, listed).await;
            listed.with_context(|| format!("{}: not all are listed at first", arm.name()))?;
        }
        let timeline = Timeline::new(is_healed);
        let mut running = Vec::new();
        for trial in trials.values() {
            running.push(Box::pin(trial.run(&timeline)));
        }
        let faults = async {
            sleep_until(timeline.start + BEFORE).await;
            timeline.cut.set(Some(Instant::now()));
            deployment.isolate(one).await?;
            sleep_until(timeline.start + BEFORE + length).await;
            timeline.heal();
            deployment.heal(one).await?;
            sleep(AFTER).await;
            anyhow::Ok(())
        };
        tokio::select! {
            outcome = faults => outcome?,
            outcome = try_join_all(running) => drop(outcome?),
        }
        let runs = trials.iter().map(async |(arm, trial)| {
            let run = trial.evaluate(&timeline).await.with_context(|| arm.name())?;
            anyhow::Ok((*arm, run))
        });
        anyhow::Ok(try_join_all(runs).await?.into_iter().collect())
    };
    tokio::select! {
        outcome = scenario => outcome,
        outcome = try_join_all(living) => outcome.map(|_| unreachable!("instances are kept registered forever")),
        _ = join_all(following) => unreachable!("clients follow forever"),
    }
}

impl Timeline {
    fn new(is_healed: Arc<AtomicBool>) -> Self {
        let (cut, healed) = (Cell::default(), Cell::default());
        Self { start: Instant::now(), cut, healed, is_healed }
    }

    fn heal(&self) {
        self.healed.set(Some(Instant::now()));
        self.is_healed.store(true, Ordering::Relaxed);
    }
}

impl ArmTrial {
    fn new(clients: Clients) -> Self {
        Self {
            clients,
            seen: RefCell::default(),
            minority: RefCell::default(),
            majority: RefCell::default(),
            samples: RefCell::default(),
        }
    }

    /// Runs forever: both sides write, instances start on the minority side, and callers are sampled.
    async fn run(&self, timeline: &Timeline) -> Result<()> {
        let minority = async {
            let Some(client) = &self.clients.minority else { return };
            write(&**client, "minority", &self.minority, || timeline.healed.get().is_some()).await;
        };
        let majority = write(&*self.clients.majority, "majority", &self.majority, || false);
        let late = (0..LATE).map(async |n| {
            let Some(client) = &self.clients.minority else { return Ok(()) };
            while timeline.cut.get().is_none_or(|cut| cut.elapsed() < Duration::from_secs(1)) {
                sleep(SAMPLE_INTERVAL).await;
            }
            client.keep_registered(&late(n)).await.map(drop)
        });
        let sampling = async {
            loop {
                let is_alive = |id: &&String| id.starts_with("live-") || id.starts_with("late-");
                let living = self.seen.borrow().iter().filter(is_alive).cloned().collect();
                self.samples.borrow_mut().push((Instant::now(), living));
                sleep(SAMPLE_INTERVAL).await;
            }
        };
        let writing = async {
            tokio::join!(minority, majority, sampling);
            Ok(())
        };
        tokio::try_join!(writing, try_join_all(late)).map(drop)
    }

    /// Returns the result.
    async fn evaluate(&self, timeline: &Timeline) -> Result<Run> {
        let left = async {
            loop {
                if let Ok(listed) = self.clients.majority.listed().await {
                    return listed;
                }
                sleep(SAMPLE_INTERVAL).await;
            }
        };
        let left = timeout(LIST_TIMEOUT, left)
            .await
            .context("the instances cannot be listed at the end")?;
        let cut = timeline.cut.get().context("no partition began")?;
        let healed = timeline.healed.get().context("no partition ended")?;
        let (minority, majority) = (self.minority.borrow(), self.majority.borrow());
        let is_before_cut = |write: &Write| write.at < cut;
        ensure!(majority.iter().any(is_before_cut), "invalid: nothing was written before the cut");
        let unavailability = unavailability(&majority, cut, healed);
        ensure!(
            unavailability > MIN_UNAVAILABILITY,
            "invalid: the partition had no effect on the majority side"
        );
        let has_minority = self.clients.minority.is_some();
        let never = has_minority && !minority.iter().any(is_before_cut);
        ensure!(!never, "invalid: nothing was written on the minority side before the cut");
        let lost = || minority.iter().chain(&*majority).filter(|write| !left.contains(&write.id));
        let (unlisted, longest_absence) = absences(&self.samples.borrow());
        // The last sample: by now no instance is renewed any more.
        let samples = self.samples.borrow();
        let (_, at_end) = samples.last().context("no sample was taken")?;
        Ok(Run {
            minority_writes: has_minority
                .then(|| minority.iter().filter(|write| write.begun >= cut).count()),
            lost: lost().count(),
            lost_from_before: lost().filter(|write| is_before_cut(write)).count(),
            majority_writes: majority.len(),
            unavailability: unavailability.as_secs_f64(),
            unlisted,
            longest_absence: longest_absence.as_secs_f64(),
            late: has_minority.then(|| (0..LATE).filter(|n| at_end.contains(&late(*n))).count()),
            listed: steps(timeline.start, &samples),
        })
    }
}

/// Registers one instance after another, and records the acknowledged ones.
async fn write(
    client: &dyn Client,
    name: &str,
    acknowledged: &RefCell<Vec<Write>>,
    is_over: impl Fn() -> bool,
) {
    for n in 0u32.. {
        if is_over() {
            return;
        }
        let (id, begun) = (format!("{name}-{n}"), Instant::now());
        // A failed write may have taken effect: the store promised nothing.
        if let Ok(Ok(())) = timeout(WRITE_TIMEOUT, client.register(&id)).await {
            acknowledged.borrow_mut().push(Write { begun, at: Instant::now(), id });
        }
        sleep(WRITE_INTERVAL).await;
    }
}

/// Returns the longest time between two acknowledgements during the partition.
fn unavailability(acknowledged: &[Write], cut: Instant, healed: Instant) -> Duration {
    let times = acknowledged.iter().map(|write| write.at).filter(|at| (cut..healed).contains(at));
    let (mut last, mut longest) = (cut, Duration::ZERO);
    for at in times.chain([healed]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

/// Returns the number of listed instances at each change: seconds after the start, and the count.
fn steps(start: Instant, samples: &[(Instant, BTreeSet<String>)]) -> Vec<(f64, usize)> {
    let samples = samples.iter().map(|(at, living)| ((*at - start).as_secs_f64(), living.len()));
    let (mut steps, mut last) = (Vec::<(f64, usize)>::new(), None);
    for sample in samples {
        if steps.last().is_none_or(|(_, listed)| *listed != sample.1) {
            steps.extend(last); // the last point of the previous count
            steps.push(sample);
        }
        last = Some(sample);
    }
    steps.extend(last);
    steps
}

/// Returns how many instances of the majority side were unlisted at some time, and the longest such time.
fn absences(samples: &[(Instant, BTreeSet<String>)]) -> (usize, Duration) {
    let (mut unlisted, mut longest) = (0, Duration::ZERO);
    for n in 0..LIVE {
        let id = live(n);
        let mut away = None;
        let mut absence = Duration::ZERO;
        for (at, listed) in samples {
            if listed.contains(&id) {
                away = None;
            } else {
                absence = absence.max(*at - *away.get_or_insert(*at) + SAMPLE_INTERVAL);
            }
        }
        unlisted += usize::from(absence > Duration::ZERO);
        longest = longest.max(absence);
    }
    (unlisted, longest)
}

fn live(n: usize) -> String {
    format!("live-{n}")
}

fn late(n: usize) -> String {
    format!("late-{n}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unavailability_is_the_longest_time_between_acknowledgements() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let write = |ms| Write { begun: at(ms), at: at(ms), id: String::new() };
        let acknowledged = [10, 120, 130, 900].map(write);
        assert_eq!(unavailability(&acknowledged, at(100), at(1000)), Duration::from_millis(770));
        assert_eq!(
            unavailability(&acknowledged[..1], at(100), at(1000)),
            Duration::from_millis(900)
        );
    }

    #[test]
    fn a_line_has_points_only_where_the_count_changes() {
        let start = Instant::now();
        let ids = |count| (0..count).map(live).collect::<BTreeSet<_>>();
        let samples: Vec<_> =
            (0..).map(|n| start + SAMPLE_INTERVAL * n).zip([3, 3, 3, 5, 5, 5].map(ids)).collect();
        let steps = steps(start, &samples);
        let expected = [(0.0, 3), (0.1, 3), (0.15, 5), (0.25, 5)];
        assert_eq!(steps.len(), expected.len(), "{steps:?}");
        for ((at, listed), (then, expected)) in steps.iter().zip(expected) {
            assert!((at - then).abs() < 1e-9 && *listed == expected, "{steps:?}");
        }
    }

    #[test]
    fn an_absence_lasts_until_the_instance_is_listed_again() {
        let start = Instant::now();
        let all: BTreeSet<String> = (0..LIVE).map(live).collect();
        let mut fewer = all.clone();
        fewer.remove(&live(3));
        let samples = [all.clone(), fewer.clone(), fewer, all];
        let samples: Vec<_> = (0..).map(|n| start + SAMPLE_INTERVAL * n).zip(samples).collect();
        assert_eq!(absences(&samples), (1, SAMPLE_INTERVAL * 2));
        assert_eq!(absences(&samples[..1]), (0, Duration::ZERO));
    }
}
