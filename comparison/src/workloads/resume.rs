//! Open a watch from an old cursor, and read all changes since then.

use super::{BoxTimed, Prepared, RequestGenerator};
use crate::arms::Arm;
use anyhow::{Result, ensure};
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn prepare<A: Arm>(
    arm: A,
    mut generator: RequestGenerator,
    count: usize,
) -> Result<BoxTimed> {
    let cursor = arm.cursor(&generator.service).await?;
    let leases = generator.register(&arm, count).await?;
    let service = generator.service;
    // A process that resumes a watch usually has other open watches, which share a stream with it.
    let other = arm.watch(&service, &arm.cursor(&service).await?).await?;
    Ok(Prepared::new(arm, leases, async move |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let _other = &other;
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let mut watch = arm.watch(&service, &cursor).await?;
            let mut read = 0;
            while read < leases.len() {
                read += arm.next(&mut watch).await?.len();
            }
            total += start.elapsed();
            ensure!(read == leases.len(), "resumed {read} changes of {}", leases.len());
        }
        Ok(total)
    }))
}
