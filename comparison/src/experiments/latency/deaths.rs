//! How late an observer sees that an instance has died, beside so many others that live.

use super::super::{Effort, Progress, as_f64, in_time};
use crate::observers::{Change, Diary, Means, Place, Servers, Stage, Writer};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use registry_testbed::servers::{Redis, ServerOptions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

/// How long an instance stays that is not renewed: the least that etcd grants.
pub(super) const TTL: Duration = Duration::from_secs(2);

/// How many die, one shortly after the other.
pub(super) const DYING: u8 = 20;

/// How long after its ttl a death may be seen. Redis looks at some 200 keys with a ttl in a second.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// Who is compared. In a hash nothing expires, and so nobody is told.
pub(super) const ARMS: [Means; 4] =
    [Means::Keyspace, Means::OursOnRedis, Means::OursOnEtcd, Means::OursInMemory];

/// What was measured of one arm in one round: how late each death was seen, in milliseconds, in order.
pub(super) type Run = Vec<f64>;

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Deaths {
    /// The servers, and what they do with a write.
    pub(super) servers: Vec<String>,
    /// All rounds of each arm, beside so many others.
    pub(super) late: BTreeMap<usize, BTreeMap<Means, Vec<Run>>>,
}

pub(super) async fn run(at: &Where, effort: Effort, progress: Progress<'_>) -> Result<Deaths> {
    let counts: &[usize] = if effort.quick { &[0, 1_000] } else { &[0, 1_000, 10_000] };
    let own = |options: &ServerOptions| ServerOptions { url: None, ..options.clone() };
    let at = Where { etcd: own(&at.etcd), redis: own(&at.redis) };
    let mut deaths = Deaths { servers: Vec::new(), late: BTreeMap::new() };
    for round in 0..effort.rounds as usize {
        for others in counts.iter().copied() {
            let done = as_f64(round) / as_f64(effort.rounds as usize);
            progress(&format!("deaths beside {others} others, round {}", round + 1), done);
            let mut servers = Servers::start(at.clone()).await?;
            let redis = Redis::start_with(at.redis.clone()).await?;
            deaths.servers = servers.describe().await?;
            let notifying = Servers { etcd: None, redis };
            let all_there = Barrier::new(ARMS.len());
            // Side by side: once all others are there it is quiet but for the expiry.
            let runs = ARMS.map(|arm| {
                let servers = if arm == Means::Keyspace { &notifying } else { &servers };
                let all_there = &all_there;
                async move {
                    let place = Place { name: "deaths", load: 0, ttl: TTL, is_disturbed: false };
                    let stage = arm.open(servers, place).await?;
                    let run = once(stage, others, all_there).await;
                    anyhow::Ok((arm, run.with_context(|| arm.name())?))
                }
            });
            let runs = in_time(try_join_all(runs)).await?;
            let late = deaths.late.entry(others).or_default();
            for (arm, run) in runs {
                late.entry(arm).or_default().push(run);
            }
        }
    }
    Ok(deaths)
}

async fn once(stage: Stage, others: usize, all_there: &Barrier) -> Result<Run> {
    let Stage { mut writer, observer, diary, way: _way } = stage;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    let work = async {
        writer.crowd(others).await?;
        all_there.wait().await;
        die(&mut *writer, &diary).await
    };
    observing.run_until(work).await
}

/// Registers instances and never again, and waits until all are seen to have gone.
async fn die(writer: &mut dyn Writer, diary: &Diary) -> Result<Run> {
    let mut due = Vec::new();
    for id in 0..DYING {
        due.push(Instant::now() + TTL);
        writer.write(Change { id, value: Some(1) }).await?;
        // Not all at the same place in whatever period a store has.
        sleep(Duration::from_millis(53)).await;
    }
    let seen = async {
        loop {
            let gone = gone(diary);
            if gone.len() == due.len() {
                return gone;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let within = TTL + SEEN_WITHIN;
    let gone = timeout(within, seen).await.with_context(|| {
        format!("{} of {DYING} were not seen to die in {within:?}", due.len() - gone(diary).len())
    })?;
    let mut late = Vec::new();
    for (id, due) in (0..).zip(due) {
        let at = gone.get(&id).context("another one died")?;
        // The ttl runs from when the server has the request, which is after it was sent.
        ensure!(*at >= due, "{id} was gone {:?} before its time", due - *at);
        late.push((*at - due).as_secs_f64() * 1e3);
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

/// Who is seen to have gone, and when.
fn gone(diary: &Diary) -> BTreeMap<u8, Instant> {
    let gone = |(at, change): (Instant, Change)| change.value.is_none().then_some((change.id, at));
    diary.changes().into_iter().filter_map(gone).collect()
}
