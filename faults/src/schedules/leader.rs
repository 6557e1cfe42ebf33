//! The leader of etcd is paused, and resumed when another member leads.

use crate::bounds::{repair_bound, return_bound};
use crate::servers::Servers;
use crate::stage::{Evidence, Stage};
use crate::topology::Store;
use anyhow::{Result, bail, ensure};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    /// The time in which the old leader may still revoke leases.
    const AFTERMATH: Duration = Duration::from_secs(3);
    let length = stage.fault_length(20, 20);
    let Servers::EtcdThree(members) = &mut stage.servers else {
        bail!("these servers have no members")
    };
    let leader = members.leader().await?;
    let began = Instant::now();
    members.process(leader).pause()?;
    let successor = members.leader().await?;
    ensure!(successor != leader, "no effect: member {leader} still leads");
    let elected = began.elapsed();
    sleep_until(began + length).await;
    members.process(leader).resume()?;
    let healed = Instant::now();
    members.rejoined(leader).await?;
    let proof =
        format!("member {leader} was paused for {length:?}, {successor} led after {elected:?}");
    let ttl = stage.ttl;
    let bound = return_bound(ttl).max(repair_bound(Store::Etcd, ttl));
    let evidence = Evidence::of_outage(began, healed, ttl, proof);
    let tail = bound + AFTERMATH;
    // A view on another member is live as soon as there is a leader.
    Ok(Evidence { cut_views: false, from_deletion: true, bound, tail, ..evidence })
}
