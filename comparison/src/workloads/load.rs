//! Load all instances of a service.

use super::{BoxTimed, Prepared, RequestGenerator};
use crate::arms::Arm;
use anyhow::{Result, ensure};
use tokio::time::Instant;

pub(super) async fn prepare<A: Arm>(
    arm: A,
    mut generator: RequestGenerator,
    count: usize,
) -> Result<BoxTimed> {
    let leases = generator.register(&arm, count).await?;
    let service = generator.service;
    Ok(Prepared::new(arm, leases, async move |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let mut loaded = leases.len();
        let start = Instant::now();
        for _ in 0..n {
            loaded = loaded.min(arm.load(&service).await?.len());
        }
        let elapsed = start.elapsed();
        ensure!(loaded == leases.len(), "a load showed {loaded} of {}", leases.len());
        Ok(elapsed)
    }))
}
