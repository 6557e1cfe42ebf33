//! How late an observer sees that an instance has expired, beside so many live ones.

use super::super::observers::{ObserverArm, Servers};
use super::super::{Effort, Progress, with_timeout};
use crate::harness::StoreOptions;
use crate::harness::stores::own;
use crate::workloads::ExpiryPlan;
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use registry_testbed::servers::Redis;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Barrier;

/// The ttl of an instance: the least that etcd grants.
pub(super) const TTL: Duration = Duration::from_secs(2);

/// How many instances expire, one shortly after the other.
pub(super) const EXPIRING: usize = 20;

/// The arms. The fields of a hash do not expire.
pub(super) const ARMS: [ObserverArm; 4] = [
    ObserverArm::Keyspace,
    ObserverArm::OursOnRedis,
    ObserverArm::OursOnEtcd,
    ObserverArm::OursInMemory,
];

/// The result of one arm in one round: how late each expiry was seen, in milliseconds, sorted.
pub(super) type Run = Vec<f64>;

/// The results.
#[derive(Debug, Serialize)]
pub(super) struct Expirations {
    /// The servers, and how they persist a write.
    pub(super) servers: Vec<String>,
    /// All rounds of each arm, by the number of other instances.
    pub(super) late: BTreeMap<usize, BTreeMap<ObserverArm, Vec<Run>>>,
}

pub(super) async fn run(
    at: &StoreOptions,
    effort: Effort,
    progress: Progress<'_>,
) -> Result<Expirations> {
    let counts: &[usize] = if effort.quick { &[0, 1_000] } else { &[0, 1_000, 10_000] };
    let at = StoreOptions { etcd: own(&at.etcd, &[]), redis: own(&at.redis, &[]) };
    let mut expirations = Expirations { servers: Vec::new(), late: BTreeMap::new() };
    for round in 0..effort.rounds {
        for others in counts.iter().copied() {
            let done = f64::from(round) / f64::from(effort.rounds);
            progress(&format!("expirations beside {others} others, round {}", round + 1), done);
            let mut servers = Servers::start(at.clone()).await?;
            let redis = Redis::start_with(at.redis.clone()).await?;
            expirations.servers = servers.describe().await?;
            let notifying = Servers { etcd: None, redis };
            // Side by side: once all others are registered, nothing but the expiry happens.
            let barrier = Barrier::new(ARMS.len());
            let plan = ExpiryPlan {
                count: EXPIRING,
                apart: Some(Duration::from_millis(53)),
                ttl: TTL,
                others,
                barrier: Some(&barrier),
                // Redis checks some 200 keys with a ttl in a second.
                patience: Duration::from_secs(120),
            };
            let (servers, notifying) = (&servers, &notifying);
            let runs = ARMS.map(async |arm| {
                let servers = if arm == ObserverArm::Keyspace { notifying } else { servers };
                let late = arm.contender(servers).await?.expirations(plan).await;
                let late = late.with_context(|| arm.name())?;
                let mut run: Run = late.iter().map(|late| late.as_secs_f64() * 1e3).collect();
                run.sort_by(f64::total_cmp);
                anyhow::Ok((arm, run))
            });
            for (arm, run) in with_timeout(try_join_all(runs)).await? {
                let late = expirations.late.entry(others).or_default();
                late.entry(arm).or_default().push(run);
            }
        }
    }
    Ok(expirations)
}
