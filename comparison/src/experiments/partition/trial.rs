//! One partition: the writes that were acknowledged on both sides, and the instances that callers saw.

use super::super::deployment::{Deployment, Topology};
use super::super::observers::ObserverArm;
use super::super::{poll, wait_until};
use super::clients::{self, SideClient};
use crate::arms;
use crate::harness::StoreOptions;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The number of instances that live on the majority side all the time.
pub(super) const LIVE: usize = 10;
/// The number of instances that start on the minority side a second after the partition.
pub(super) const LATE: usize = 5;
const BEFORE: Duration = Duration::from_secs(1);
pub(super) const AFTER: Duration = Duration::from_secs(5);
/// The time between two writes, on each side.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// The minimum unavailability of the majority side. A failover takes a second.
const MIN_UNAVAILABILITY: Duration = Duration::from_millis(500);
/// The timeout of a write, including retries of the client.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between two samples of what callers see.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Run {
    /// Writes on the minority side that began and were acknowledged in the partition. `None` without a client there.
    pub(super) minority_writes: Option<usize>,
    /// Of these, the writes that began after the takeover.
    pub(super) minority_writes_after_takeover: Option<usize>,
    /// Acknowledged writes of both sides that are missing at the end.
    pub(super) lost: usize,
    /// The longest time without an acknowledged write on the majority side, in seconds.
    pub(super) unavailability: f64,
    /// Instances on the majority side that were unlisted at some time.
    pub(super) unlisted: usize,
    /// The longest time that one of them was unlisted, in seconds.
    pub(super) longest_absence: f64,
    /// Instances started on the minority side that are listed at the end. `None` without a client there.
    pub(super) late: Option<usize>,
}

impl Run {
    /// Returns how many live instances callers lost sight of: on the majority side meanwhile, others at the end.
    pub(super) fn unseen(&self) -> usize {
        self.unlisted + self.late.map_or(0, |late| LATE - late)
    }
}

struct Timeline {
    /// Where all arms wait for each other before the partition.
    ready: Barrier,
    cut: Cell<Option<Instant>>,
    partition: Cell<Option<Partition>>,
    is_healed: Arc<AtomicBool>,
    is_over: Cell<bool>,
}

/// The times of a completed partition.
#[derive(Clone, Copy)]
struct Partition {
    cut: Instant,
    takeover: Instant,
    healed: Instant,
}

struct Write {
    begun: Instant,
    at: Instant,
    id: String,
}

/// The live instances that a caller saw at a time.
type Sample = BTreeSet<String>;

/// Partitions the primary or leader for `length`, under all arms at once.
pub(super) async fn run(
    topology: Topology,
    at: &StoreOptions,
    length: Duration,
) -> Result<BTreeMap<ObserverArm, Run>> {
    let mut deployment = Deployment::start(topology, at).await?;
    let one = deployment.primary().await?;
    let timeline = &Timeline {
        ready: Barrier::new(clients::arms(topology).len() + 1),
        cut: Cell::default(),
        partition: Cell::default(),
        is_healed: Arc::default(),
        is_over: Cell::default(),
    };
    let mut trials = Vec::new();
    for arm in clients::arms(topology) {
        let sides = clients::open(*arm, &deployment, one, &timeline.is_healed).await?;
        trials.push(async move {
            let run = trial(&sides, timeline).await.with_context(|| arm.name())?;
            anyhow::Ok((*arm, run))
        });
    }
    let faults = async {
        timeline.ready.wait().await;
        sleep(BEFORE).await;
        let cut = Instant::now();
        timeline.cut.set(Some(cut));
        deployment.isolate(one).await?;
        let takeover = Instant::now();
        sleep_until(cut + length).await;
        timeline.partition.set(Some(Partition { cut, takeover, healed: Instant::now() }));
        timeline.is_healed.store(true, Ordering::Relaxed);
        deployment.heal(one).await?;
        sleep(AFTER).await;
        timeline.is_over.set(true);
        Ok(())
    };
    let (runs, ()) = tokio::try_join!(try_join_all(trials), faults)?;
    Ok(runs.into_iter().collect())
}

/// Runs one arm: both sides write, instances live on both, and a caller is sampled.
async fn trial(
    (minority, majority): &(Option<SideClient>, SideClient),
    timeline: &Timeline,
) -> Result<Run> {
    let seen = RefCell::<BTreeSet<String>>::default();
    let living = (0..LIVE).map(|n| majority.keep_registered(live(n)));
    let starting = minority.iter().flat_map(|client| (0..LATE).map(move |n| (client, late(n))));
    let starting = starting.map(async |(client, id)| {
        while timeline.cut.get().is_none_or(|cut| cut.elapsed() < Duration::from_secs(1)) {
            sleep(SAMPLE_INTERVAL).await;
        }
        client.keep_registered(id).await
    });
    let scenario = async {
        let all: BTreeSet<String> = (0..LIVE).map(live).collect();
        wait_until("not all instances are listed", || seen.borrow().is_superset(&all)).await?;
        // Failed writes prove nothing about a client that cannot write without faults either.
        for (client, id) in minority.iter().zip(["minority"]).chain([(majority, "majority")]) {
            let first = async || client.current().register(id, arms::TTL).await.ok();
            poll("no write is acknowledged", first).await?;
        }
        timeline.ready.wait().await;
        let minority = async {
            let client = minority.as_ref()?;
            let is_healed = || timeline.is_healed.load(Ordering::Relaxed);
            Some(write(client, "minority", is_healed).await)
        };
        let majority_writes = write(majority, "majority", || timeline.is_over.get());
        let (minority, majority_writes, samples) =
            tokio::join!(minority, majority_writes, sample(&seen, timeline));
        let partition = timeline.partition.get().context("there was no partition")?;
        let listed = async || majority.current().listed().await.ok();
        let left = poll("the instances are not listed at the end", listed).await?;
        evaluate(minority.as_deref(), &majority_writes, &samples, partition, &left)
    };
    tokio::select! {
        outcome = scenario => outcome,
        outcome = try_join_all(living) => outcome.map(|_| unreachable!("they are kept registered forever")),
        Err(error) = try_join_all(starting) => Err(error),
        outcome = majority.follow(&seen) => match outcome? {},
    }
}

/// Registers one instance after another, and returns the acknowledged ones.
async fn write(client: &SideClient, name: &str, is_over: impl Fn() -> bool) -> Vec<Write> {
    let mut acknowledged = Vec::new();
    for n in 0u32.. {
        if is_over() {
            break;
        }
        let (id, begun) = (format!("{name}-{n}"), Instant::now());
        // A failed write may have taken effect, but was not acknowledged.
        let outcome = timeout(WRITE_TIMEOUT, client.current().register(&id, arms::TTL)).await;
        if let Ok(Ok(())) = outcome {
            acknowledged.push(Write { begun, at: Instant::now(), id });
        }
        sleep(WRITE_INTERVAL).await;
    }
    acknowledged
}

async fn sample(seen: &RefCell<BTreeSet<String>>, timeline: &Timeline) -> Vec<Sample> {
    let mut samples = Vec::new();
    while !timeline.is_over.get() {
        let is_alive = |id: &&String| id.starts_with("live-") || id.starts_with("late-");
        samples.push(seen.borrow().iter().filter(is_alive).cloned().collect());
        sleep(SAMPLE_INTERVAL).await;
    }
    samples
}

/// Evaluates the acknowledged writes of both sides, the samples, and the ids that are left at the end.
fn evaluate(
    minority: Option<&[Write]>,
    majority: &[Write],
    samples: &[Sample],
    Partition { cut, takeover, healed }: Partition,
    left: &BTreeSet<String>,
) -> Result<Run> {
    let unavailability = unavailability(majority, cut, healed);
    let had_effect = unavailability > MIN_UNAVAILABILITY;
    ensure!(had_effect, "invalid: the partition had no effect on the majority side");
    let all = minority.unwrap_or_default().iter().chain(majority);
    let absences = (0..LIVE).map(|n| absence(&live(n), samples));
    let absences: Vec<Duration> = absences.filter(|absence| !absence.is_zero()).collect();
    let at_end = samples.last().context("no sample was taken")?;
    Ok(Run {
        minority_writes: minority.map(|writes| count(writes, cut, healed)),
        minority_writes_after_takeover: minority.map(|writes| count(writes, takeover, healed)),
        lost: all.filter(|write| !left.contains(&write.id)).count(),
        unavailability: unavailability.as_secs_f64(),
        unlisted: absences.len(),
        longest_absence: absences.into_iter().max().unwrap_or_default().as_secs_f64(),
        late: minority.map(|_| (0..LATE).filter(|n| at_end.contains(&late(*n))).count()),
    })
}

/// Counts the writes that began at `from` or later and were acknowledged before `to`.
fn count(acknowledged: &[Write], from: Instant, to: Instant) -> usize {
    acknowledged.iter().filter(|write| from <= write.begun && write.at < to).count()
}

/// Returns the longest time between two acknowledgements during the partition.
fn unavailability(acknowledged: &[Write], cut: Instant, healed: Instant) -> Duration {
    let times = acknowledged.iter().map(|write| write.at).filter(|at| (cut..healed).contains(at));
    let times: Vec<Instant> = [cut].into_iter().chain(times).chain([healed]).collect();
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// Returns the longest time that an instance was unlisted.
fn absence(id: &str, samples: &[Sample]) -> Duration {
    let absences = samples.split(|listed| listed.contains(id)).map(<[_]>::len);
    SAMPLE_INTERVAL * absences.max().unwrap_or(0).try_into().unwrap_or(u32::MAX)
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

    /// A write to the isolated member of etcd began just before the heal. The new leader acknowledged it 140 ms later,
    /// and it was counted as a write of the minority side.
    #[test]
    fn a_minority_write_counts_after_the_takeover_if_it_begins_after_it_and_ends_before_the_heal() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let partition = Partition { cut: at(1_000), takeover: at(3_000), healed: at(8_000) };
        let counted = |begun, acknowledged| {
            let write = Write { begun: at(begun), at: at(acknowledged), id: String::new() };
            let run = evaluate(Some(&[write]), &[], &[Sample::new()], partition, &Sample::new());
            let run = run.unwrap();
            (run.minority_writes.unwrap(), run.minority_writes_after_takeover.unwrap())
        };
        assert_eq!(counted(900, 1_100), (0, 0), "in flight at the cut");
        assert_eq!(counted(1_100, 3_100), (1, 0), "in flight at the takeover");
        assert_eq!(counted(3_100, 3_200), (1, 1), "by a second leader");
        assert_eq!(counted(7_900, 8_100), (0, 0), "in flight at the heal");
    }

    #[test]
    fn unavailability_is_the_longest_time_between_acknowledgements() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let write = |ms| Write { begun: at(ms), at: at(ms), id: String::new() };
        let acknowledged = [10, 120, 130, 900].map(write);
        let of = |acknowledged| unavailability(acknowledged, at(100), at(1000));
        assert_eq!(of(&acknowledged), Duration::from_millis(770));
        assert_eq!(of(&acknowledged[..1]), Duration::from_millis(900));
    }

    #[test]
    fn an_absence_lasts_until_the_instance_is_listed_again() {
        let [all, fewer] = [0..LIVE, 0..3].map(|ids| ids.map(live).collect::<Sample>());
        let samples = [all.clone(), fewer.clone(), fewer.clone(), all, fewer];
        assert_eq!(absence(&live(3), &samples), SAMPLE_INTERVAL * 2);
        assert_eq!(absence(&live(2), &samples), Duration::ZERO);
    }
}
