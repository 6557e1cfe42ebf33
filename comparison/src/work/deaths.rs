//! Instances that nobody renews, and when it is seen that they are gone.

use super::Names;
use crate::arms::{Arm, Request};
use anyhow::{Context, Result};
use futures_util::{StreamExt, future};
use registry_core::{Claim, InstanceId};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How many die, and when.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Dying {
    /// How many.
    pub count: u32,
    /// How far apart they are registered. A store that looks for the dead now and then must not find
    /// them all at the same distance.
    pub apart: Duration,
    /// For how long each is registered.
    pub ttl: Duration,
}

/// Registers instances and renews none. By how much each outlived its ttl in the eyes of a watch: from
/// before the call that registered it.
pub(super) async fn see<A: Arm>(arm: &A, mut names: Names, dying: Dying) -> Result<Vec<Duration>> {
    let mut deaths = arm.deaths(names.service()).await?;
    let seeing = async {
        let mut seen = HashMap::new();
        while seen.len() < usize::try_from(dying.count)? {
            let id = deaths.next().await.context("the watch ended")??;
            seen.insert(id, Instant::now());
        }
        Ok(seen)
    };
    let registering = register(arm, &mut names, dying);
    let (due, seen): (_, HashMap<InstanceId, Instant>) =
        future::try_join(registering, seeing).await?;
    let late = due.into_iter().map(|(id, due)| {
        let seen = seen.get(&id).with_context(|| format!("another than {id} is gone"))?;
        seen.checked_duration_since(due).with_context(|| format!("{id} is gone before its ttl"))
    });
    late.collect()
}

/// When the ttl of each ends.
async fn register<A: Arm>(
    arm: &A,
    names: &mut Names,
    dying: Dying,
) -> Result<Vec<(InstanceId, Instant)>> {
    let mut ticks = interval(dying.apart);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Vec::new();
    for _ in 0..dying.count {
        ticks.tick().await;
        let request = Request { claim: Claim::new(dying.ttl)?, ..names.request()? };
        due.push((request.instance.id().clone(), Instant::now() + dying.ttl));
        arm.register(&request).await?;
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::{Stand, Store, Where};

    #[tokio::test]
    async fn on_every_store_each_death_is_seen_after_its_ttl() {
        let (apart, ttl) = (Duration::from_millis(10), Duration::from_secs(2));
        let dying = Dying { count: 2, apart, ttl };
        for store in Store::ALL {
            let stand = Stand::open(store, &Where::default()).await.unwrap();
            let raw = stand.raw.as_ref().into_iter();
            // Each has a deadline of its own.
            let deaths = raw.chain([&stand.ours]).map(|contender| contender.deaths(dying));
            for late in future::try_join_all(deaths).await.unwrap() {
                assert_eq!(late.len(), 2, "{stand:?}");
            }
        }
    }
}
