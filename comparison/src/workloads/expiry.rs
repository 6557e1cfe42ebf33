//! Records that expire, and when that is seen.

use super::RequestGenerator;
use crate::arms::{Arm, Request};
use anyhow::{Context, Result};
use futures_util::{StreamExt, future};
use registry_core::{Claim, InstanceId};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How many instances expire, and when.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct ExpiryPlan {
    /// How many.
    pub count: u32,
    /// The time between two registrations, so that they expire at different phases of a periodic check of the
    /// store.
    pub apart: Duration,
    /// The ttl of each.
    pub ttl: Duration,
}

/// Registers instances and renews none. Returns how late after its ttl a watch saw each expiry; the ttl starts
/// before the call that registers the instance.
pub(super) async fn observe<A: Arm>(
    arm: &A,
    mut generator: RequestGenerator,
    plan: ExpiryPlan,
) -> Result<Vec<Duration>> {
    let mut expirations = arm.expirations(generator.service()).await?;
    let seeing = async {
        let mut seen = HashMap::new();
        while seen.len() < usize::try_from(plan.count)? {
            let id = expirations.next().await.context("the watch ended")??;
            seen.insert(id, Instant::now());
        }
        Ok(seen)
    };
    let registering = register(arm, &mut generator, plan);
    let (due, seen): (_, HashMap<InstanceId, Instant>) =
        future::try_join(registering, seeing).await?;
    let late = due.into_iter().map(|(id, due)| {
        let seen = seen.get(&id).with_context(|| format!("another instance than {id} expired"))?;
        seen.checked_duration_since(due).with_context(|| format!("{id} expired before its ttl"))
    });
    late.collect()
}

/// Registers the instances. Returns when the ttl of each ends.
async fn register<A: Arm>(
    arm: &A,
    generator: &mut RequestGenerator,
    plan: ExpiryPlan,
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
    use crate::stores::{Store, StoreFixture, StoreOptions};

    #[tokio::test]
    async fn every_store_shows_an_expiry_after_the_ttl() {
        let (apart, ttl) = (Duration::from_millis(10), Duration::from_secs(2));
        let plan = ExpiryPlan { count: 2, apart, ttl };
        for store in Store::ALL {
            let fixture = StoreFixture::open(store, &StoreOptions::default()).await.unwrap();
            let raw = fixture.raw.as_ref().into_iter();
            // Each has a deadline of its own.
            let expirations =
                raw.chain([&fixture.ours]).map(|contender| contender.expirations(plan));
            for late in future::try_join_all(expirations).await.unwrap() {
                assert_eq!(late.len(), 2, "{fixture:?}");
            }
        }
    }
}
