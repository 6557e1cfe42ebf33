//! The replicas that must acknowledge writes are paused. The primary works.

use crate::operator::redis_at;
use crate::servers::Servers;
use crate::stage::{Evidence, Stage};
use anyhow::{Result, bail, ensure};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    const SERVERS: usize = 3;
    /// The length of the pause after three ttls.
    const LONGER: Duration = Duration::from_secs(5);
    const WAIT_MS: u32 = 100;
    let length = 3 * stage.ttl + LONGER;
    let Servers::Sentinel(servers) = &mut stage.servers else {
        bail!("these servers have no replicas")
    };
    let primary = servers.primary().await?;
    let mut redis = redis_at(&servers.address(primary)).await?;
    let began = Instant::now();
    let replicas: Vec<usize> = (0..SERVERS).filter(|server| *server != primary).collect();
    for replica in &replicas {
        servers.process(*replica).pause()?;
    }
    sleep_until(began + length).await;
    // WAIT only covers writes of this connection.
    redis::cmd("SET").arg("written").arg(1).query_async::<()>(&mut redis).await?;
    let wait = redis::cmd("WAIT").arg(1).arg(WAIT_MS).query_async::<u32>(&mut redis).await?;
    ensure!(wait == 0, "no effect: {wait} replicas acknowledge a write");
    for replica in &replicas {
        servers.process(*replica).resume()?;
    }
    let current = servers.primary().await?;
    ensure!(current == primary, "no effect: server {current} took over");
    let proof = format!("no replica acknowledged a write for {length:?}");
    Ok(Evidence::of_no_outage(stage, began, proof))
}
