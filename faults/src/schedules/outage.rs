//! A killed store: it is restarted with or without its data, or another server takes over.

use crate::stage::{Evidence, Stage};
use crate::tap::{Status, Tap};
use crate::topology::Topology;
use anyhow::{Result, ensure};
use registry_core::{CallOptions, Claim, Instance, ServiceName};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Whether the data survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Kept,
    Lost,
}

/// Kills all servers, and restarts them after 20 s, or 12 s in the short form.
pub(super) async fn restart(stage: &mut Stage, data: Data) -> Result<Evidence> {
    let length = stage.fault_length(20, 20);
    let canary = register_canary(stage).await?;
    let addresses = stage.servers.addresses()?;
    let began = Instant::now();
    stage.servers.kill()?;
    if data == Data::Lost {
        stage.servers.wipe()?;
    }
    sleep(length).await;
    for address in &addresses {
        let refused = TcpStream::connect(address).await.is_err();
        ensure!(refused, "no effect: {address} accepts connections");
    }
    let is_stale = |tap: &&Arc<Tap>| tap.last().is_some_and(|one| one.status == Status::Stale);
    let (stale_views, views) = (stage.taps.iter().filter(is_stale).count(), stage.taps.len());
    stage.servers.restart().await?;
    let healed = Instant::now();
    let listed = stage.direct.load(&canary, &CallOptions::DEFAULT).await?.records().len();
    let expected = usize::from(data == Data::Kept);
    ensure!(listed == expected, "no effect: {listed} of 1 old records is listed, data {data:?}");
    let proof =
        format!("killed for {length:?}, data {data:?}, {stale_views} of {views} views stale");
    Ok(Evidence::of_outage(began, healed, stage.ttl, proof))
}

/// Kills a Redis. Without replicas it is restarted with its data; else a replica takes over.
pub(super) async fn crash(stage: &mut Stage) -> Result<Evidence> {
    if stage.spec.cell.topology == Topology::Redis {
        return restart(stage, Data::Kept).await;
    }
    let began = Instant::now();
    let (primary, successor) = stage.servers.fail_over().await?;
    let healed = Instant::now();
    let took = healed - began;
    let proof = format!("server {successor} took over from {primary} within {took:?}");
    let evidence = Evidence::of_outage(began, healed, stage.ttl, proof);
    // A failover may end before a view must notice.
    Ok(Evidence { cut_views: false, ..evidence })
}

/// Registers an instance of a separate service. Its lease outlives the run.
async fn register_canary(stage: &Stage) -> Result<ServiceName> {
    const LONG: Duration = Duration::from_secs(3_600);
    let canary: ServiceName = "canary.rpc".parse()?;
    let instance = Instance::from_parts(canary.clone(), "1".parse()?, "10.0.0.1:8080".parse()?);
    stage.direct.register(&instance, &Claim::new(LONG)?, &CallOptions::DEFAULT).await?;
    Ok(canary)
}
