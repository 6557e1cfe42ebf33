//! Update a registered instance under its lease.

use super::{BoxTimed, Prepared, RequestGenerator};
use crate::arms::Arm;
use anyhow::Result;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn prepare<A: Arm>(arm: A, mut generator: RequestGenerator) -> Result<BoxTimed> {
    let mut request = generator.request()?;
    let leases = vec![arm.register(&request).await?];
    Ok(Prepared::new(arm, leases, async move |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let weight = request.instance.weight() % 1_000 + 1;
            request.instance = request.instance.clone().with_weight(weight);
            let start = Instant::now();
            leases[0] = arm.update(&leases[0], &request).await?;
            total += start.elapsed();
        }
        Ok(total)
    }))
}
