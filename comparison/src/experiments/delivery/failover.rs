//! The server that takes writes is killed, another takes over, and writers and observers go on there.

use super::super::score::{Score, score};
use super::super::versioning::settle;
use crate::arms::TTL;
use crate::observers::keyspace::NOTIFY;
use crate::observers::{Change, Diary, Fleet, Means, Place, Stage, Writer};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use registry_testbed::servers::{EtcdCluster, RedisSentinel, ServerOptions};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Who is compared. What is published goes through Sentinel's clients of the `redis` crate.
pub(super) const ALL: [Means; 5] = [
    Means::Publish,
    Means::PublishAndReread,
    Means::Keyspace,
    Means::OursOnRedis,
    Means::OursOnEtcd,
];

/// How many instances there are; each is changed in turn.
const IDS: u8 = 50;

/// How many changes are made before.
const UNDISTURBED: u32 = 100;

/// When a change is due after the one before. It is tried again until it is acknowledged.
const EVERY: Duration = Duration::from_millis(5);

/// How long after all follow the servers are killed.
const KILLED_AFTER: Duration = Duration::from_secs(1);

/// How long it may take until another takes writes, and until all is seen in the end.
const OVER_WITHIN: Duration = Duration::from_secs(30);

/// Makes it once, with all side by side over the same failovers.
pub(super) async fn once(at: &Where, changes: u32) -> Result<BTreeMap<Means, Score>> {
    let [name, what] = NOTIFY;
    let arguments = vec![format!("--{name}"), what.to_owned()];
    let all = ServerOptions { arguments, ..at.redis.clone() };
    let redis = RedisSentinel::start_with(all).await?;
    let etcd = EtcdCluster::start_with(at.etcd.clone()).await?;
    let mut fleet = Fleet { etcd, redis };
    let mut stages = Vec::new();
    for means in ALL {
        let place = Place { name: "failover", load: 0, ttl: TTL, is_disturbed: false };
        stages.push((means, means.open_on_fleet(&fleet, place).await?));
    }
    let all_follow = Barrier::new(ALL.len() + 1);
    let following = stages.into_iter().map(async |(means, stage)| {
        let score = follow(stage, changes, &all_follow).await.with_context(|| means.name())?;
        anyhow::Ok((means, score))
    });
    let (scores, ()) =
        tokio::try_join!(try_join_all(following), fail_over(&mut fleet, &all_follow))?;
    Ok(scores.into_iter().collect())
}

/// Kills both servers that take writes, and waits until others do.
async fn fail_over(fleet: &mut Fleet, all_follow: &Barrier) -> Result<()> {
    let (primary, leader) = (fleet.redis.primary().await?, fleet.etcd.leader().await?);
    all_follow.wait().await;
    sleep(KILLED_AFTER).await;
    fleet.redis.process(primary).kill()?;
    fleet.etcd.process(leader).kill()?;
    let Fleet { redis, etcd } = &*fleet;
    let (_, successor) = tokio::try_join!(redis.successor_of(primary), etcd.leader())?;
    ensure!(successor != leader, "invalid: etcd has the same leader");
    Ok(())
}

async fn follow(stage: Stage, changes: u32, all_follow: &Barrier) -> Result<Score> {
    let Stage { mut writer, observer, diary, way: _way } = stage;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    let work = write_all(&mut *writer, &diary, changes, all_follow);
    let written = observing.run_until(work).await?;
    Ok(score(&written, &diary.read()))
}

/// Writes one change after the other, each until it is acknowledged.
async fn write_all(
    writer: &mut dyn Writer,
    diary: &Diary,
    changes: u32,
    all_follow: &Barrier,
) -> Result<Vec<Change>> {
    let written: Vec<Change> = (1..=changes).map(|n| Change::in_turn(n, IDS)).collect();
    let (first, rest) = written.split_at(UNDISTURBED as usize);
    for change in first {
        writer.write(*change).await?;
        sleep(EVERY).await;
    }
    let follows = settle(first, diary, OVER_WITHIN).await;
    ensure!(follows, "invalid: it does not follow when nobody disturbs it");
    all_follow.wait().await;
    let start = Instant::now();
    for (change, n) in rest.iter().zip(0..) {
        sleep_until(start + EVERY * n).await;
        let acknowledged = async {
            while writer.write(*change).await.is_err() {
                sleep(EVERY).await;
            }
        };
        timeout(OVER_WITHIN, acknowledged).await.context("nobody takes over")?;
    }
    let _held = settle(&written, diary, OVER_WITHIN / 3).await; // some never do: that is a result
    Ok(written)
}
