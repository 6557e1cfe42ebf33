//! Register a new instance, and deregister it afterwards, or at the end.

use super::{Prepared, RequestGenerator, Timed, deregister};
use crate::arms::Arm;
use std::mem::take;
use std::time::Duration;
use tokio::time::Instant;

/// How many registrations are timed in one go and then withdrawn. Few, so that a service never gets
/// large; more than one, since the clock costs as much as a tenth of a registration in memory.
const CHUNK: usize = 50;

pub(super) fn chunks(n: u64) -> impl Iterator<Item = usize> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    (0..n.div_ceil(CHUNK)).map(move |done| CHUNK.min(n - done * CHUNK))
}

/// Deregisters after each chunk, outside of the time; or, if they are to be `kept`, at the end of the workload.
pub(super) fn prepare<A: Arm>(
    arm: A,
    mut generator: RequestGenerator,
    kept: bool,
) -> Box<dyn Timed> {
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
            if !kept {
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
