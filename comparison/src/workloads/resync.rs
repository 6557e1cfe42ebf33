//! Watch from a compacted cursor, load, and watch again.

use super::{Prepared, RequestGenerator, Timed};
use crate::arms::Arm;
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn prepare<A: Arm>(
    arm: A,
    mut generator: RequestGenerator,
    count: usize,
) -> Result<Box<dyn Timed>> {
    let compacted = arm.cursor(&generator.service).await?;
    let leases = generator.register(&arm, count).await?;
    let service = generator.service;
    // Once is enough: the history stays compacted.
    arm.compact(&service).await?;
    // As a process has that uses the service.
    let other = arm.watch(&service, &arm.cursor(&service).await?).await?;
    Ok(Prepared::new(arm, leases, async move |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let _other = &other;
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let (loaded, watch) = arm.resync(&service, &compacted).await?;
            total += start.elapsed();
            drop(watch);
            ensure!(loaded == leases.len(), "a load showed {loaded} of {}", leases.len());
        }
        Ok(total)
    }))
}
