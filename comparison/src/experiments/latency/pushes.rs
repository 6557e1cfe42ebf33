//! How long after a change was due an observer has it in hand.

use super::super::{Effort, Progress, as_f64, in_time};
use crate::arms::TTL;
use crate::levels::{Level, SyncCost};
use crate::observers::{Change, Diary, Means, Place, Servers, Stage, Writer};
use crate::stores::{self, Store, Where};
use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use registry_testbed::servers::{Etcd, Redis};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// When a change is due after the one before. A single writer keeps up with that, but on a slow disk.
pub(super) const EVERY: Duration = Duration::from_millis(10);

/// How many instances there are; each is changed in turn.
const IDS: u8 = 50;

/// How many bytes each carries besides.
pub(super) const LOAD: usize = 256;

/// How long an observer may take to follow, and to see the last change.
const SEEN_WITHIN: Duration = Duration::from_secs(10);

/// The clock of the runtime ticks once in a millisecond: the rest of a wait is spent looking at it.
const TICKS: Duration = Duration::from_millis(2);

/// Who is compared at a level. To read anew after a reconnect is no other way where nobody disconnects.
const ARMS: [Means; 6] = [
    Means::Publish,
    Means::Keyspace,
    Means::PlainEtcd,
    Means::OursOnRedis,
    Means::OursOnEtcd,
    Means::OursInMemory,
];

/// What was measured of one arm in one round, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Run {
    /// From when a change was due to when the observer had it.
    pub(super) seen: Percentiles,
    /// From when a change was due to when it was acknowledged.
    pub(super) acknowledged: Percentiles,
    /// How far behind the writer was in the end: if by some changes, what waits is most of what is measured.
    pub(super) behind: f64,
    /// How late the writer began what was due and what nothing before it held up: the harness' own part.
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

/// Everything at one level.
#[derive(Debug, Serialize)]
pub(super) struct AtLevel {
    /// The servers, and what they do with a write.
    pub(super) servers: Vec<String>,
    /// All rounds of each arm that there is at this level.
    pub(super) runs: BTreeMap<Means, Vec<Run>>,
    /// All changes of all rounds, in nanoseconds.
    #[serde(skip)]
    pub(super) seen: BTreeMap<Means, Histogram<u64>>,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Pushes {
    /// What the disk takes.
    pub(super) sync: SyncCost,
    /// By what a store promises of a write that it acknowledged.
    pub(super) levels: BTreeMap<Level, AtLevel>,
}

/// The servers of a level.
struct Ground {
    /// For all but notifications, which are a setting of the server that would slow down others.
    servers: Servers,
    notifying: Servers,
    told: Vec<String>,
}

pub(super) async fn run(at: &Where, effort: Effort, progress: Progress<'_>) -> Result<Pushes> {
    let sync = SyncCost::of_disk()?;
    let changes = if effort.quick { 100 } else { 600 };
    let mut levels = BTreeMap::new();
    for (done, level) in Level::ALL.into_iter().enumerate() {
        let ground = Ground::at(level, at).await?;
        let arms: Vec<Means> = ARMS.into_iter().filter(|arm| ground.has(level, *arm)).collect();
        let mut found =
            AtLevel { servers: ground.told.clone(), runs: BTreeMap::new(), seen: BTreeMap::new() };
        for round in 0..effort.rounds as usize {
            let share = as_f64(done * effort.rounds as usize + round);
            let share = share / as_f64(Level::ALL.len() * effort.rounds as usize);
            progress(&format!("pushes, {}, round {}", level.name(), round + 1), share);
            for turn in 0..arms.len() {
                // Who begins rotates, so that no one has the machine at its best each time.
                let arm = arms[(turn + round) % arms.len()];
                let measured = in_time(once(ground.open(arm, round).await?, changes)).await;
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

impl Ground {
    async fn at(level: Level, at: &Where) -> Result<Self> {
        let servers = level.servers(Store::Redis, at)?.context("Redis has all levels")?;
        let mut redis = Redis::start_with(servers.redis.clone()).await?;
        let notifying = Redis::start_with(servers.redis).await?;
        let mut told = vec![stores::describe_redis(&mut redis).await?];
        let mut etcd = match level.servers(Store::Etcd, at)? {
            Some(servers) => Some(Etcd::start_with(servers.etcd).await?),
            None => None,
        };
        match &mut etcd {
            None => told.extend(level.why_without_etcd().map(|why| format!("not on etcd: {why}"))),
            Some(server) => {
                told.push(stores::describe_etcd(server).await?);
                if let Some(why) = level.refused_by(&told[1]) {
                    told.push(format!("not on etcd: {why}"));
                    etcd = None;
                }
            }
        }
        let notifying = Servers { etcd: None, redis: notifying };
        Ok(Self { servers: Servers { etcd, redis }, notifying, told })
    }

    /// Whether an arm takes part at a level. What is in memory is the same at each.
    fn has(&self, level: Level, arm: Means) -> bool {
        match arm {
            Means::PlainEtcd | Means::OursOnEtcd => self.servers.etcd.is_some(),
            Means::OursInMemory => level == Level::Nothing,
            _ => true,
        }
    }

    async fn open(&self, arm: Means, round: usize) -> Result<Stage> {
        let servers = if arm == Means::Keyspace { &self.notifying } else { &self.servers };
        let name = format!("pushes-{round}");
        arm.open(servers, Place { name: &name, load: LOAD, ttl: TTL, is_disturbed: false }).await
    }
}

struct Measured {
    seen: Histogram<u64>,
    run: Run,
}

async fn once(stage: Stage, changes: u32) -> Result<Measured> {
    let Stage { mut writer, observer, diary, way: _way } = stage;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    observing.run_until(push(&mut *writer, &diary, changes)).await
}

/// Writes each change when it is due, however long the one before took.
async fn push(writer: &mut dyn Writer, diary: &Diary, changes: u32) -> Result<Measured> {
    let change = |n: u32| Change::in_turn(n, IDS);
    let mut last = 0;
    let warm_up = async {
        // A subscriber says nothing when it begins: it follows once it sees what is written.
        while last < u32::from(IDS) || !sees(diary, last) {
            last += 1;
            writer.write(change(last)).await?;
            sleep(EVERY).await;
        }
        anyhow::Ok(())
    };
    timeout(SEEN_WITHIN, warm_up).await.context("it does not follow")??;
    let (mut acknowledged, mut harness, mut due) = (histogram()?, histogram()?, Vec::new());
    let start = Instant::now() + EVERY;
    let mut free = start;
    for n in 0..changes {
        last += 1;
        let at = start + EVERY * n;
        wait_until(at).await;
        harness.record(nanoseconds(free.max(at).elapsed()))?;
        writer.write(change(last)).await?;
        free = Instant::now();
        acknowledged.record(nanoseconds(free - at))?;
        due.push((change(last), at));
    }
    let behind = free.saturating_duration_since(start + EVERY * changes);
    let seeing = async {
        while !sees(diary, last) {
            sleep(EVERY).await;
        }
    };
    timeout(SEEN_WITHIN, seeing).await.context("it did not see the last change")?;
    let mut seen = histogram()?;
    for latency in latencies(&due, &diary.changes())? {
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

/// How long after it was due each change was seen: it, or a later one of the same instance.
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

fn sees(diary: &Diary, value: u32) -> bool {
    diary.changes().last().is_some_and(|(_, change)| change.value == Some(value))
}

async fn wait_until(at: Instant) {
    sleep_until(at - TICKS).await;
    while Instant::now() < at {
        yield_now().await;
    }
}

/// Of nanoseconds, to three digits.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Run {
    /// Whether the writer kept up with what was due.
    pub(super) fn kept_up(&self) -> bool {
        self.behind < microseconds(nanoseconds(EVERY * 5))
    }
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |share| microseconds(histogram.value_at_quantile(share));
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: microseconds(histogram.max()) }
    }
}

pub(super) fn microseconds(nanoseconds: u64) -> f64 {
    crate::meter::as_f64(nanoseconds) / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_overtaken_is_seen_with_the_one_that_overtook_it() {
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
