//! Register a new instance, and deregister it: afterwards, as part of it, or at the end.

use super::{Prepared, RequestGenerator, Timed, deregister};
use crate::arms::Arm;
use std::time::Duration;
use tokio::time::Instant;

/// How many registrations are timed in one go and then withdrawn. Few, so that a service never gets
/// large; more than one, since the clock costs as much as a tenth of a registration in memory.
const CHUNK: usize = 50;

pub(super) fn chunks(n: u64) -> impl Iterator<Item = usize> {
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    (0..n.div_ceil(CHUNK)).map(move |done| CHUNK.min(n - done * CHUNK))
}

/// When a registered instance is deregistered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleanup {
    /// After each chunk, outside of the time.
    Afterwards,
    /// At once, as a part of what is timed.
    AtOnce,
    /// At the end of the workload.
    AtTheEnd,
}

pub(super) fn prepare<A: Arm>(
    arm: A,
    mut generator: RequestGenerator,
    cleanup: Cleanup,
) -> Box<dyn Timed> {
    Prepared::new(arm, Vec::new(), async move |arm: &A, kept: &mut Vec<A::Lease>, n| {
        let mut total = Duration::ZERO;
        for chunk in chunks(n) {
            let requests = generator.requests(chunk)?;
            let mut leases = Vec::with_capacity(chunk);
            let start = Instant::now();
            for request in &requests {
                let registered = arm.register(request).await?;
                if cleanup == Cleanup::AtOnce {
                    arm.deregister(registered).await?;
                } else {
                    leases.push(registered);
                }
            }
            total += start.elapsed();
            if cleanup == Cleanup::AtTheEnd {
                kept.append(&mut leases);
            }
            deregister(arm, leases).await?;
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
