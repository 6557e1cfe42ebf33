//! Renew a registration.

use super::{BoxTimed, Prepared, RequestGenerator};
use crate::arms::Arm;
use anyhow::Result;
use tokio::time::Instant;

pub(super) async fn prepare<A: Arm>(arm: A, mut generator: RequestGenerator) -> Result<BoxTimed> {
    let leases = generator.register(&arm, 1).await?;
    Ok(Prepared::new(arm, leases, async |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let start = Instant::now();
        for _ in 0..n {
            arm.keep_alive(&leases[0]).await?;
        }
        Ok(start.elapsed())
    }))
}
