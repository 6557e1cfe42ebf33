//! The runtime that handles were made on is shut down, while clones of them are used on another one.

use crate::stage::{Evidence, Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    /// Until each registration was renewed several times, and each watch gave signs of life.
    const LONGER: Duration = Duration::from_secs(3);
    let length = 2 * stage.ttl + LONGER;
    let mut side = stage.side_runtime.take().context("no handle was made on another runtime")?;
    let began = Instant::now();
    let handles = side.shut_down().await;
    ensure!(handles > stage.taps.len(), "no effect: {handles} handles were used on the runtime");
    let took = began.elapsed();
    sleep_until(began + length).await;
    let proof = format!("the runtime of {handles} handles was shut down within {took:?}");
    Ok(Evidence::of_no_outage(stage, began, proof))
}
