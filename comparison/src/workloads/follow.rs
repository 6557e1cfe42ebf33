//! Open a live view of a service.

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
    let leases = generator.register(&arm, count).await?;
    let service = generator.service;
    Ok(Prepared::new(arm, leases, async move |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let listed = if let Some(view) = arm.view(&service) {
                view.ready(super::DEADLINE).await?;
                let listed = view.state().records().len();
                total += start.elapsed();
                listed
            } else {
                let cursor = arm.cursor(&service).await?;
                let loaded = arm.load(&service).await?;
                let _watch = arm.watch(&service, &cursor).await?;
                total += start.elapsed();
                loaded.len()
            };
            ensure!(listed == leases.len(), "{listed} of {} are listed", leases.len());
        }
        Ok(total)
    }))
}
