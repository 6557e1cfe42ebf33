//! Measure the time from the end of a ttl until a watch shows the expiry.

use super::{RequestGenerator, Workload};
use crate::arms::{Arm, Request};
use anyhow::{Context, Result, bail};
use registry_core::{Change, Claim, InstanceId};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// The instances that expire, and their timing.
#[derive(Clone, Copy, Debug)]
pub struct ExpiryPlan<'a> {
    pub count: usize,
    /// The time between two registrations. It spreads the expiries over the phases of the store's periodic check.
    pub apart: Duration,
    pub ttl: Duration,
    /// The number of other live instances.
    pub others: usize,
    /// The barrier at which concurrent arms wait for each other before the first registration.
    pub barrier: Option<&'a Barrier>,
    /// The timeout after the last ttl. An expiry that was not seen by then counts with this time.
    pub patience: Duration,
}

/// Registers instances and renews none. Returns for each instance how long after its ttl a watch showed the expiry. The
/// ttl begins before the call of `register`.
pub async fn observe<A: Arm>(arm: &A, plan: ExpiryPlan<'_>) -> Result<Vec<Duration>> {
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let others = RequestGenerator::new(Workload::Register)?.register(arm, plan.others).await?;
    if let Some(barrier) = plan.barrier {
        barrier.wait().await;
    }
    let service = &generator.service;
    let mut watch = arm.watch(service, &arm.cursor(service).await?).await?;
    let registering = register(arm, &mut generator, plan);
    let mut seen = HashMap::<InstanceId, Instant>::new();
    let observation = async {
        while seen.len() < plan.count {
            for change in arm.next(&mut watch).await? {
                if let Change::Delete(deleted) = change {
                    seen.insert(deleted.id().clone(), Instant::now());
                }
            }
        }
        anyhow::Ok(())
    };
    let mut observation = Box::pin(observation);
    let due = tokio::select! {
        due = registering => due?,
        outcome = &mut observation => bail!("all expired while they were registered: {outcome:?}"),
    };
    let end = due.iter().map(|(_, due)| *due).max().context("no instance was registered")?;
    if let Ok(outcome) = timeout_at(end + plan.patience, observation).await {
        outcome?;
    }
    super::deregister(arm, others).await?;
    let late = due.into_iter().map(|(id, due)| match seen.get(&id) {
        None => Ok(plan.patience),
        Some(seen) => seen
            .checked_duration_since(due)
            .with_context(|| format!("{id} expired before its ttl: {:?}", due - *seen)),
    });
    late.collect()
}

/// Registers one instance after the other, and returns when each ttl ends.
async fn register<A: Arm>(
    arm: &A,
    generator: &mut RequestGenerator,
    plan: ExpiryPlan<'_>,
) -> Result<Vec<(InstanceId, Instant)>> {
    let mut ticks = interval(plan.apart);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Vec::new();
    for _ in 0..plan.count {
        ticks.tick().await;
        let request = Request { claim: Claim::new(plan.ttl)?, ..generator.request()? };
        due.push((request.instance.id().clone(), Instant::now() + plan.ttl));
        arm.register(&request).await?;
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arms::Ours;
    use crate::harness::{Server, Store};

    #[tokio::test]
    async fn every_store_shows_an_expiry_after_the_ttl() {
        let (apart, second) = (Duration::from_millis(10), Duration::from_secs(1));
        let plan = ExpiryPlan {
            count: 2,
            apart,
            ttl: second * 2,
            others: 1,
            barrier: None,
            patience: second * 60,
        };
        for store in Store::ALL {
            let server = Server::start(store).await.unwrap();
            let ours = Ours::new(server.registry().await.unwrap());
            let mut late = observe(&ours, plan).await.unwrap();
            // The raw arm of Redis expires no leases.
            if let Server::Etcd(server) = &server {
                late.extend(observe(&server.raw().await.unwrap(), plan).await.unwrap());
            }
            assert_eq!(late.len(), if store == Store::Etcd { 4 } else { 2 }, "{store:?}");
            assert!(late.iter().all(|late| *late < plan.patience), "{store:?}: {late:?}");
        }
    }
}
