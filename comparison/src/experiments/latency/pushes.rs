//! The time from when a change is due until an observer sees it.

use super::super::observers::{ObserverArm, Servers};
use super::super::{Effort, Progress, with_timeout};
use crate::harness::{
    ArmOptions, Change, EventLog, Level, OpenArm, Store, StoreOptions, SyncCost, Writer, as_f64,
    stores,
};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use registry_testbed::servers::{Etcd, Redis};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The time between two changes. A single writer keeps up with that, except on a slow disk.
pub(super) const INTERVAL: Duration = Duration::from_millis(10);

/// How many instances there are, changed in a round robin.
const INSTANCES: u8 = 50;

/// How many bytes each instance carries beside its value.
pub(super) const PAYLOAD_LEN: usize = 256;

/// How long an observer may take to follow, and to see the last change.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The runtime's timer ticks once in a millisecond: the rest of a wait is a busy loop.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// The arms at a level. A full read after a reconnect makes no difference where nothing disconnects.
const ARMS: [ObserverArm; 6] = [
    ObserverArm::Publish,
    ObserverArm::Keyspace,
    ObserverArm::PlainEtcd,
    ObserverArm::OursOnRedis,
    ObserverArm::OursOnEtcd,
    ObserverArm::OursInMemory,
];

/// The result of one arm in one round, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Run {
    /// From when a change was due to when the observer saw it.
    pub(super) seen: Percentiles,
    /// From when a change was due to when it was acknowledged.
    pub(super) acknowledged: Percentiles,
    /// How far behind the writer was at the end. If by several changes, the figures mostly show queueing.
    pub(super) behind: f64,
    /// How late the writer started a due change that no earlier one delayed: the lateness of the harness.
    pub(super) harness: Percentiles,
}

/// In microseconds.
#[derive(Clone, Copy, Debug, Serialize)]

pub(super) struct Percentiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// The results at one level.
#[derive(Debug, Serialize)]
pub(super) struct AtLevel {
    /// The servers, and how they persist a write.
    pub(super) servers: Vec<String>,
    /// All rounds of each arm that there is at this level.
    pub(super) runs: BTreeMap<ObserverArm, Vec<Run>>,
    /// All changes of all rounds, in nanoseconds.
    #[serde(skip)]
    pub(super) seen: BTreeMap<ObserverArm, Histogram<u64>>,
}

/// The results.
#[derive(Debug, Serialize)]
pub(super) struct Pushes {
    /// The cost of a sync to disk.
    pub(super) sync: SyncCost,
    /// The results by level of durability.
    pub(super) levels: BTreeMap<Level, AtLevel>,
}

/// The servers of a level.
struct LevelServers {
    /// For all arms except notifications, a setting of the server that slows down the others.
    servers: Servers,
    notifying: Servers,
    descriptions: Vec<String>,
}

pub(super) async fn run(
    at: &StoreOptions,
    effort: Effort,
    progress: Progress<'_>,
) -> Result<Pushes> {
    let sync = SyncCost::of_disk()?;
    let changes = if effort.quick { 100 } else { 600 };
    let mut levels = BTreeMap::new();
    for (done, level) in Level::ALL.into_iter().enumerate() {
        let level_servers = LevelServers::start(level, at).await?;
        let arms: Vec<ObserverArm> =
            ARMS.into_iter().filter(|arm| level_servers.has(level, *arm)).collect();
        let mut found = AtLevel {
            servers: level_servers.descriptions.clone(),
            runs: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        for round in 0..effort.rounds as usize {
            let share = as_f64(done * effort.rounds as usize + round);
            let share = share / as_f64(Level::ALL.len() * effort.rounds as usize);
            progress(&format!("pushes, {}, round {}", level.name(), round + 1), share);
            for turn in 0..arms.len() {
                // The first arm rotates, so that none has an advantage.
                let arm = arms[(turn + round) % arms.len()];
                let measured =
                    with_timeout(once(level_servers.open(arm, round).await?, changes)).await;
                let Measured { seen, run } = measured.with_context(|| arm.name())?;
                found.runs.entry(arm).or_default().push(run);
                match found.seen.get_mut(&arm) {
                    Some(all) => all.add(seen)?,
                    None => drop(found.seen.insert(arm, seen)),
                }
            }
        }
        levels.insert(level, found);
    }
    Ok(Pushes { sync, levels })
}

impl LevelServers {
    async fn start(level: Level, at: &StoreOptions) -> Result<Self> {
        let servers = level.servers(Store::Redis, at)?.context("Redis has all levels")?;
        let mut redis = Redis::start_with(servers.redis.clone()).await?;
        let notifying = Redis::start_with(servers.redis).await?;
        let mut descriptions = vec![stores::describe_redis(&mut redis).await?];
        let mut etcd = match level.servers(Store::Etcd, at)? {
            Some(servers) => Some(Etcd::start_with(servers.etcd).await?),
            None => None,
        };
        match &mut etcd {
            None => descriptions
                .extend(level.why_without_etcd().map(|why| format!("not on etcd: {why}"))),
            Some(server) => {
                descriptions.push(stores::describe_etcd(server).await?);
                if let Some(why) = level.unsupported_by(&descriptions[1]) {
                    descriptions.push(format!("not on etcd: {why}"));
                    etcd = None;
                }
            }
        }
        let notifying = Servers { etcd: None, redis: notifying };
        Ok(Self { servers: Servers { etcd, redis }, notifying, descriptions })
    }

    /// Returns whether an arm takes part at a level. Memory is the same at each.
    fn has(&self, level: Level, arm: ObserverArm) -> bool {
        match arm {
            ObserverArm::PlainEtcd | ObserverArm::OursOnEtcd => self.servers.etcd.is_some(),
            ObserverArm::OursInMemory => level == Level::Nothing,
            _ => true,
        }
    }

    async fn open(&self, arm: ObserverArm, round: usize) -> Result<OpenArm> {
        let servers = if arm == ObserverArm::Keyspace { &self.notifying } else { &self.servers };
        let name = format!("pushes-{round}");
        arm.open(servers, ArmOptions { name: &name, payload_len: PAYLOAD_LEN, via_proxy: false })
            .await
    }
}

struct Measured {
    seen: Histogram<u64>,
    run: Run,
}

async fn once(opened: OpenArm, changes: u32) -> Result<Measured> {
    let OpenArm { mut writer, observer, log, link: _link } = opened;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    observing.run_until(push(&mut *writer, &log, changes)).await
}

/// Writes each change when it is due, regardless of how long the previous one took.
async fn push(writer: &mut dyn Writer, log: &EventLog, changes: u32) -> Result<Measured> {
    let change = |n: u32| Change::round_robin(n, INSTANCES);
    let mut last = 0;
    let warm_up = async {
        // A subscriber does not report when it is ready: it follows once it sees a written change.
        while last < u32::from(INSTANCES) || !sees(log, last) {
            last += 1;
            writer.write(change(last)).await?;
            sleep(INTERVAL).await;
        }
        anyhow::Ok(())
    };
    timeout(OBSERVE_TIMEOUT, warm_up).await.context("the observer does not follow")??;
    let (mut acknowledged, mut harness, mut due) = (histogram()?, histogram()?, Vec::new());
    let start = Instant::now() + INTERVAL;
    let mut free = start;
    for n in 0..changes {
        last += 1;
        let at = start + INTERVAL * n;
        wait_until(at).await;
        harness.record(nanoseconds(free.max(at).elapsed()))?;
        writer.write(change(last)).await?;
        free = Instant::now();
        acknowledged.record(nanoseconds(free - at))?;
        due.push((change(last), at));
    }
    let behind = free.saturating_duration_since(start + INTERVAL * changes);
    let seeing = async {
        while !sees(log, last) {
            sleep(INTERVAL).await;
        }
    };
    timeout(OBSERVE_TIMEOUT, seeing).await.context("the observer did not see the last change")?;
    let mut seen = histogram()?;
    for latency in latencies(&due, &log.changes())? {
        seen.record(nanoseconds(latency))?;
    }
    let run = Run {
        seen: Percentiles::of(&seen),
        acknowledged: Percentiles::of(&acknowledged),
        behind: microseconds(nanoseconds(behind)),
        harness: Percentiles::of(&harness),
    };
    Ok(Measured { seen, run })
}

/// Returns how long after it was due each change was seen, or a later one of the same instance.
fn latencies(due: &[(Change, Instant)], seen: &[(Instant, Change)]) -> Result<Vec<Duration>> {
    let mut of_id: BTreeMap<u8, Vec<(Instant, u32)>> = BTreeMap::new();
    for (at, change) in seen {
        of_id.entry(change.id).or_default().extend(change.value.map(|value| (*at, value)));
    }
    let latency = |(change, due): &(Change, Instant)| {
        let seen = of_id.get(&change.id).into_iter().flatten();
        let first = seen.clone().find(|(_, value)| Some(*value) >= change.value);
        let (at, _) = first.with_context(|| format!("{change:?} was never seen"))?;
        ensure!(at >= due, "{change:?} was seen before it was written");
        Ok(*at - *due)
    };
    due.iter().map(latency).collect()
}

fn sees(log: &EventLog, value: u32) -> bool {
    log.changes().last().is_some_and(|(_, change)| change.value == Some(value))
}

async fn wait_until(at: Instant) {
    sleep_until(at - TIMER_SLACK).await;
    while Instant::now() < at {
        yield_now().await;
    }
}

/// Returns a histogram of nanoseconds with three significant digits.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Run {
    /// Returns whether the writer kept up with the schedule.
    pub(super) fn kept_up(&self) -> bool {
        self.behind < microseconds(nanoseconds(INTERVAL * 5))
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share| microseconds(histogram.value_at_quantile(share));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: microseconds(histogram.max()) }
    }
}

pub(super) fn microseconds(nanoseconds: u64) -> f64 {
    as_f64(nanoseconds) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superseded_change_is_seen_with_its_successor() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let change = |id, value| Change { id, value: Some(value) };
        let due = [(change(1, 1), at(0)), (change(2, 2), at(5)), (change(1, 3), at(10))];
        let seen = [(at(7), change(2, 2)), (at(12), change(1, 3))];
        let latencies = |seen: &[_]| latencies(&due, seen);
        let expected = [12, 2, 2].map(Duration::from_millis);
        assert_eq!(latencies(&seen).unwrap(), expected);
        assert!(latencies(&seen[..1]).unwrap_err().to_string().contains("never seen"));
    }
}
