//! The scripts of Redis are flushed continuously.

use crate::operator::redis_at;
use crate::stage::{Evidence, Stage};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    const PER_SECOND: u32 = 300;
    let length = Duration::from_secs(if stage.spec.quick { 5 } else { 15 });
    let address = stage.servers.addresses()?[0].to_string();
    let mut redis = redis_at(&address).await?;
    let mut tick = interval(Duration::from_secs(1) / PER_SECOND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut flushes) = (Instant::now(), 0_u32);
    while began.elapsed() < length {
        tick.tick().await;
        redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut redis).await?;
        flushes += 1;
    }
    let least = PER_SECOND / 2 * u32::try_from(length.as_secs())?;
    ensure!(flushes >= least, "no effect: scripts were flushed only {flushes} times");
    let stats: String = redis::cmd("INFO").arg("errorstats").query_async(&mut redis).await?;
    let missed = stats.lines().find_map(|line| line.strip_prefix("errorstat_NOSCRIPT:count="));
    let missed = missed.context("no effect: no call missed its script")?;
    let proof = format!("{flushes} flushes, {missed} calls missed their script");
    Ok(Evidence::of_no_outage(stage, began, proof))
}
