//! Events of etcd, and of the links to it.

use crate::event::now;
use crate::figures::Marks;
use crate::stage::Stage;
use anyhow::Result;
use registry_testbed::proxy::{Fault, Proxy};
use std::time::Duration;
use tokio::time::sleep;

/// Stops etcd for some seconds, and optionally deletes its data.
pub(super) async fn down(stage: &mut Stage, seconds: u64, is_wiped: bool) -> Result<Vec<Marks>> {
    let marks = start_marks(stage);
    stage.store.kill(None)?;
    if is_wiped {
        stage.store.wipe()?;
    }
    sleep(Duration::from_secs(seconds)).await;
    stage.store.restart().await?;
    Ok(marks)
}

/// Compacts the history. Connections stay open.
pub(super) async fn compaction(stage: &mut Stage) -> Result<Vec<Marks>> {
    let marks = start_marks(stage);
    stage.operator()?.compact().await?;
    Ok(marks)
}

/// Disconnects the callers, terminates a server, and compacts the history.
pub(super) async fn cut_compaction(stage: &mut Stage) -> Result<Vec<Marks>> {
    /// The time without connections after the compaction.
    const CUT: Duration = Duration::from_secs(2);
    for proxy in &stage.store.proxies {
        proxy.inject(Fault::Refuse);
        proxy.reset();
    }
    let marks = super::servers::drain(stage).await?;
    stage.operator()?.compact().await?;
    sleep(CUT).await;
    stage.store.proxies.iter().for_each(Proxy::heal);
    Ok(marks)
}

/// Kills the leader, and restarts it.
pub(super) async fn leader_change(stage: &mut Stage) -> Result<Vec<Marks>> {
    const DOWNTIME: Duration = Duration::from_secs(5);
    let marks = start_marks(stage);
    let cluster = stage.store.cluster()?;
    let leader = cluster.leader().await?;
    cluster.process(leader).kill()?;
    sleep(DOWNTIME).await;
    cluster.process(leader).restart().await?;
    Ok(marks)
}

/// Kills two of three members, and restarts them one after the other.
pub(super) async fn quorum_lost(stage: &mut Stage) -> Result<Vec<Marks>> {
    const DOWNTIME: Duration = Duration::from_secs(6);
    let marks = start_marks(stage);
    stage.store.kill(Some(0))?;
    sleep(DOWNTIME).await;
    let cluster = stage.store.cluster()?;
    for member in 1..crate::store::MEMBERS {
        cluster.process(member).restart().await?;
    }
    Ok(marks)
}

/// Returns marks that begin now, and have no events of servers.
fn start_marks(stage: &Stage) -> Vec<Marks> {
    let began = now();
    stage.fleets.iter().map(|_| Marks { began, ..Marks::default() }).collect()
}
