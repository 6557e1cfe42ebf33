//! Deregister an instance.

use super::register::chunks;
use super::{BoxTimed, Prepared, RequestGenerator};
use crate::arms::Arm;
use std::time::Duration;
use tokio::time::Instant;

pub(super) fn prepare<A: Arm>(arm: A, mut generator: RequestGenerator) -> BoxTimed {
    Prepared::new(arm, Vec::new(), async move |arm: &A, _: &mut Vec<A::Lease>, n| {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let leases = generator.register(arm, chunk).await?;
            let start = Instant::now();
            for lease in leases {
                arm.deregister(lease).await?;
            }
            total += start.elapsed();
        }
        Ok(total)
    })
}
