//! Failover: the primary or leader crashes, another takes over, and writers and observers reconnect to it.

use super::super::observers::{ObserverArm, ReplicatedServers};
use super::super::score::{Score, score};
use super::super::versioning::wait_until_converged;
use crate::harness::{ArmOptions, Change, EventLog, OpenArm, StoreOptions, Writer};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use registry_testbed::servers::{EtcdCluster, RedisSentinel};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The arms. Those of plain Redis use the Sentinel client of the `redis` crate.
pub(super) const ARMS: [ObserverArm; 5] = [
    ObserverArm::Publish,
    ObserverArm::PublishAndReread,
    ObserverArm::Keyspace,
    ObserverArm::OursOnRedis,
    ObserverArm::OursOnEtcd,
];

/// How many instances there are, changed in a round robin.
const INSTANCES: u8 = 50;

/// How many changes are written before the failover.
const BEFORE_FAILOVER: u32 = 100;

/// The time between two changes. Each is retried until it is acknowledged.
const INTERVAL: Duration = Duration::from_millis(5);

/// How long after all observers follow the servers are killed.
const KILLED_AFTER: Duration = Duration::from_secs(1);

/// How long a failover may take, and how long an observer may take to converge.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs one failover of each store, with all arms side by side.
pub(super) async fn once(at: &StoreOptions, changes: u32) -> Result<BTreeMap<ObserverArm, Score>> {
    let redis = RedisSentinel::start_with(at.redis.clone()).await?;
    let etcd = EtcdCluster::start_with(at.etcd.clone()).await?;
    let mut servers = ReplicatedServers { etcd, redis };
    let mut opened = Vec::new();
    for arm in ARMS {
        let options = ArmOptions { name: "failover", payload_len: 0, via_proxy: false };
        opened.push((arm, arm.open_replicated(&servers, options).await?));
    }
    let all_follow = Barrier::new(ARMS.len() + 1);
    let following = opened.into_iter().map(async |(arm, opened)| {
        let score = follow(opened, changes, &all_follow).await.with_context(|| arm.name())?;
        anyhow::Ok((arm, score))
    });
    let (scores, ()) =
        tokio::try_join!(try_join_all(following), fail_over(&mut servers, &all_follow))?;
    Ok(scores.into_iter().collect())
}

/// Kills the primary of Redis and the leader of etcd, and waits until others take over.
async fn fail_over(servers: &mut ReplicatedServers, all_follow: &Barrier) -> Result<()> {
    let (primary, leader) = (servers.redis.primary().await?, servers.etcd.leader().await?);
    all_follow.wait().await;
    sleep(KILLED_AFTER).await;
    servers.redis.process(primary).kill()?;
    servers.etcd.process(leader).kill()?;
    let ReplicatedServers { redis, etcd } = &*servers;
    let (_, successor) = tokio::try_join!(redis.successor_of(primary), etcd.leader())?;
    ensure!(successor != leader, "invalid: etcd has the same leader");
    Ok(())
}

async fn follow(opened: OpenArm, changes: u32, all_follow: &Barrier) -> Result<Score> {
    let OpenArm { mut writer, observer, log, link: _link } = opened;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    let work = write_all(&mut *writer, &log, changes, all_follow);
    let written = observing.run_until(work).await?;
    Ok(score(&written, &log.events()))
}

/// Writes one change after the other, and retries each until it is acknowledged.
async fn write_all(
    writer: &mut dyn Writer,
    log: &EventLog,
    changes: u32,
    all_follow: &Barrier,
) -> Result<Vec<Change>> {
    let written: Vec<Change> = (1..=changes).map(|n| Change::round_robin(n, INSTANCES)).collect();
    let (first, rest) = written.split_at(BEFORE_FAILOVER as usize);
    for change in first {
        writer.write(*change).await?;
        sleep(INTERVAL).await;
    }
    let converged = wait_until_converged(first, log, FAILOVER_TIMEOUT).await;
    ensure!(converged, "invalid: the observer does not follow without faults");
    all_follow.wait().await;
    let start = Instant::now();
    for (change, n) in rest.iter().zip(0..) {
        sleep_until(start + INTERVAL * n).await;
        let acknowledged = async {
            while writer.write(*change).await.is_err() {
                sleep(INTERVAL).await;
            }
        };
        timeout(FAILOVER_TIMEOUT, acknowledged).await.context("no server takes over")?;
    }
    let _converged = wait_until_converged(&written, log, FAILOVER_TIMEOUT / 3).await; // some never converge: that is a result
    Ok(written)
}
