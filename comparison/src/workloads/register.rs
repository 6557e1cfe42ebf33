//! Register a new instance.

use super::{BoxTimed, Prepared, RequestGenerator, deregister};
use crate::arms::Arm;
use std::mem::take;
use std::time::Duration;
use tokio::time::Instant;

/// The number of registrations that are timed together and then deregistered. It is small, so that the service stays
/// small, but not 1, because reading the clock costs a tenth of a registration in memory.
const CHUNK: usize = 50;

pub(super) fn chunks(n: u64) -> impl Iterator<Item = usize> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    (0..n.div_ceil(CHUNK)).map(move |done| CHUNK.min(n - done * CHUNK))
}

/// Deregisters after each chunk outside the measured time, or at the end of the workload if `keeps`.
pub(super) fn prepare<A: Arm>(arm: A, mut generator: RequestGenerator, keeps: bool) -> BoxTimed {
    Prepared::new(arm, Vec::new(), async move |arm: &A, leases: &mut Vec<A::Lease>, n| {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let requests = generator.requests(chunk)?;
            leases.reserve(chunk);
            let start = Instant::now();
            for request in &requests {
                leases.push(arm.register(request).await?);
            }
            total += start.elapsed();
            if !keeps {
                deregister(arm, take(leases)).await?;
            }
        }
        Ok(total)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_add_up_to_the_total() {
        assert_eq!(chunks(120).collect::<Vec<_>>(), [50, 50, 20]);
        assert_eq!(chunks(50).collect::<Vec<_>>(), [50]);
        assert_eq!(chunks(0).count(), 0);
    }
}
