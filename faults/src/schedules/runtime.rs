//! The runtime that created the handles is shut down, while their clones are used on another runtime.

use crate::stage::{Evidence, Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    /// The time to observe after two ttls. In total it is long enough for several renewals and liveness probes.
    const LONGER: Duration = Duration::from_secs(3);
    let length = 2 * stage.ttl + LONGER;
    let mut side = stage.side_runtime.take().context("no handle was created on another runtime")?;
    let began = Instant::now();
    let handles = side.shut_down().await;
    ensure!(handles > stage.taps.len(), "no effect: {handles} handles were used on the runtime");
    let took = began.elapsed();
    sleep_until(began + length).await;
    let proof = format!("the runtime of {handles} handles was shut down within {took:?}");
    Ok(Evidence::of_no_outage(stage, began, proof))
}
