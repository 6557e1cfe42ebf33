//! How late an observer sees an expiry, beside other live instances.

use super::super::observers::{ObserverArm, Servers, WRITER};
use super::super::{Effort, Progress, side_by_side};
use super::Percentiles;
use crate::harness::StoreOptions;
use crate::harness::stores::own;
use crate::workloads::ExpiryPlan;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Barrier;

/// The ttl of an instance, the minimum of etcd.
pub(super) const TTL: Duration = Duration::from_secs(2);
/// The number of instances that expire, one shortly after the other.
pub(super) const EXPIRING: usize = 20;
/// The arms. The fields of a hash do not expire.
pub(super) const ARMS: [ObserverArm; 3] =
    [ObserverArm::Keyspace, ObserverArm::OursOnRedis, ObserverArm::OursOnEtcd];

/// The delays of expirations in all rounds of each arm, by the number of other instances.
pub(super) type Expirations = BTreeMap<usize, BTreeMap<ObserverArm, Vec<Percentiles>>>;

pub(super) async fn run(
    at: &StoreOptions,
    effort: Effort,
    progress: Progress<'_>,
) -> Result<(Vec<String>, Expirations)> {
    let counts: &[usize] = if effort.quick { &[0, 1_000] } else { &[0, 1_000, 10_000] };
    let at = StoreOptions { etcd: own(&at.etcd, &[]), redis: own(&at.redis, &[]) };
    let (mut descriptions, mut expirations) = (Vec::new(), Expirations::new());
    for others in counts.iter().copied() {
        let servers = Servers::start(at.clone()).await?;
        descriptions = servers.descriptions();
        // Concurrently: once all other instances are registered, the servers only expire leases.
        let barrier = Barrier::new(ARMS.len());
        let plan = ExpiryPlan {
            count: EXPIRING,
            apart: Duration::from_millis(53),
            ttl: TTL,
            others,
            barrier: Some(&barrier),
            // Redis checks some 200 keys with a ttl per second.
            patience: Duration::from_secs(120),
        };
        let once = async |arm: ObserverArm, _| {
            let client = arm.client(servers.url(arm)?, "expiry", WRITER).await?;
            let late = client.expirations(plan).await.with_context(|| arm.name())?;
            Ok(Percentiles::of(late))
        };
        let progress: Progress<'_> = &|what, share| {
            progress(&format!("expirations beside {others} others, {what}"), share);
        };
        expirations.insert(others, side_by_side(&ARMS, effort, progress, once).await?);
    }
    Ok((descriptions, expirations))
}
