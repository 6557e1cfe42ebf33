//! Records that are deleted by hand.

use crate::bounds::{repair_bound, return_bound};
use crate::operator::Operator;
use crate::stage::{Evidence, Stage, pause};
use anyhow::Result;
use registry_core::{InstanceId, LeaseId};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// An instance, and the lease of its record.
type Victim = (InstanceId, LeaseId);

/// Deletes the records of one to four owners.
pub(super) async fn keys(stage: &mut Stage) -> Result<Evidence> {
    let count = stage.random.usize(1..=4);
    let (mut operator, victims) = (Operator::connect(&stage.servers).await?, victims(stage, count));
    let bound = repair_bound(operator.store(), stage.ttl);
    let deleted = delete(stage, &mut operator, &victims, bound).await?;
    let proof = format!("{count} records deleted by hand");
    Ok(evidence(stage, deleted, bound, proof))
}

/// Deletes all records.
pub(super) async fn prefix(stage: &mut Stage) -> Result<Evidence> {
    let (mut operator, victims) =
        (Operator::connect(&stage.servers).await?, victims(stage, usize::MAX));
    let bound = repair_bound(operator.store(), stage.ttl).max(return_bound(stage.ttl));
    let began = Instant::now();
    let keys = operator.wipe().await?;
    let returns = await_return(stage, &mut operator, &victims, began, bound).await?;
    let proof = format!("{keys} keys deleted by prefix");
    Ok(evidence(stage, (began, returns), bound, proof))
}

/// Deletes the record of an owner each time that it is registered again.
pub(super) async fn repeated(stage: &mut Stage) -> Result<Evidence> {
    const ROUNDS: u32 = 5;
    // Repeated deletions make the owner back off, by 100 ms at first and then twice as long each time.
    const BACKOFF: Duration = Duration::from_millis(100 << (ROUNDS - 2));
    let (mut operator, victims) = (Operator::connect(&stage.servers).await?, victims(stage, 1));
    let bound = repair_bound(operator.store(), stage.ttl).max(return_bound(stage.ttl)) + BACKOFF;
    let (mut all, mut began) = (Vec::new(), Instant::now());
    for _ in 0..ROUNDS {
        // The record has a new lease if the owner registered again.
        let victims = victims
            .iter()
            .map(|(id, lease)| (id.clone(), stage.listing.lease(id).unwrap_or(*lease)));
        let victims: Vec<Victim> = victims.collect();
        let (deleted_at, returns) = delete(stage, &mut operator, &victims, bound).await?;
        began = deleted_at;
        all.extend(returns);
        let pause = Duration::from_millis(stage.random.u64(0..1_000));
        sleep(pause).await;
    }
    let proof = format!("a record deleted {ROUNDS} times");
    Ok(evidence(stage, (began, all), bound, proof))
}

async fn delete(
    stage: &Stage,
    operator: &mut Operator,
    victims: &[Victim],
    bound: Duration,
) -> Result<(Instant, Vec<Duration>)> {
    let began = Instant::now();
    for (id, lease) in victims {
        operator.delete(id, *lease).await?;
    }
    let returns = await_return(stage, operator, victims, began, bound).await?;
    Ok((began, returns))
}

/// Waits until all records are registered again, and returns how long that took for each. A record that is not
/// registered again counts with the whole wait.
async fn await_return(
    stage: &Stage,
    operator: &mut Operator,
    victims: &[Victim],
    began: Instant,
    bound: Duration,
) -> Result<Vec<Duration>> {
    let limit = 2 * bound + stage.ttl + Duration::from_secs(5);
    let mut returns = Vec::new();
    for (id, _) in victims {
        let restored = async {
            while !operator.has(id).await? {
                pause().await;
            }
            anyhow::Ok(())
        };
        let remaining = (began + limit).saturating_duration_since(Instant::now());
        if let Ok(outcome) = timeout(remaining, restored).await {
            outcome?;
        }
        returns.push(began.elapsed());
    }
    Ok(returns)
}

fn victims(stage: &mut Stage, count: usize) -> Vec<Victim> {
    let mut owners: Vec<_> = stage.owners.iter().map(|owner| owner.id().clone()).collect();
    stage.random.shuffle(&mut owners);
    let lease = |id: InstanceId| stage.listing.lease(&id).map(|lease| (id, lease));
    owners.into_iter().take(count).filter_map(lease).collect()
}

fn evidence(
    stage: &Stage,
    (began, returns): (Instant, Vec<Duration>),
    bound: Duration,
    proof: String,
) -> Evidence {
    let evidence = Evidence::of_outage(began, began, stage.ttl, proof);
    Evidence { cut_views: false, bound, returns, ..evidence }
}
