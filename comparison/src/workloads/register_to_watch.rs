//! Register, and wait until a consumer has the event.

use super::{BoxTimed, Prepared, RequestGenerator};
use crate::arms::Arm;
use anyhow::{Result, ensure};
use futures_util::{FutureExt, future};
use registry_core::Change;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn prepare<A: Arm>(arm: A, mut generator: RequestGenerator) -> Result<BoxTimed> {
    let cursor = arm.cursor(&generator.service).await?;
    let mut watch = arm.watch(&generator.service, &cursor).await?;
    Ok(Prepared::new(arm, Vec::new(), async move |arm: &A, _: &mut Vec<A::Lease>, n| {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            total += run_round(arm, &mut generator, &mut watch).await?;
        }
        Ok(total)
    }))
}

/// Registers and deregisters one instance. Returns the time from before the call of `register` until the watch yields
/// the event, which may be before the response to the call.
async fn run_round<A: Arm>(
    arm: &A,
    generator: &mut RequestGenerator,
    watch: &mut A::Watch,
) -> Result<Duration> {
    let request = generator.request()?;
    let is_put = |change: &Change| matches!(change, Change::Put(record) if *record.instance() == request.instance);
    let (lease, elapsed) = {
        let mut seen = pin!(until(arm, watch, is_put));
        // The consumer already waits: the response to a load shows that its blocking read reached the server.
        let is_early = seen.as_mut().now_or_never().is_some();
        ensure!(!is_early, "the watch yielded an event before the registration");
        arm.load(&generator.service).await?;
        let start = Instant::now();
        let seen = async { seen.await.map(|()| start.elapsed()) };
        future::try_join(arm.register(&request), seen).await?
    };
    arm.deregister(lease).await?;
    let id = request.instance.id();
    let is_deletion =
        |change: &Change| matches!(change, Change::Delete(deleted) if deleted.id() == id);
    until(arm, watch, is_deletion).await?;
    Ok(elapsed)
}

/// Reads a watch until the expected change, which must be the next one.
async fn until<A: Arm>(
    arm: &A,
    watch: &mut A::Watch,
    is_expected: impl Fn(&Change) -> bool,
) -> Result<()> {
    loop {
        let changes = arm.next(watch).await?;
        if !changes.is_empty() {
            let is_next = changes.len() == 1 && is_expected(&changes[0]);
            ensure!(is_next, "unexpected changes: {changes:?}");
            return Ok(());
        }
    }
}
