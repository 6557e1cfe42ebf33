//! A silent link: no connection of owners and views carries data, and later only new connections do.

use crate::servers::{Link, Servers};
use crate::stage::{Evidence, Stage, pause};
use anyhow::{Context, Result, ensure};
use registry_testbed::proxy::{Fault, Proxy};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    /// The maximum time after the end of its ttl until a store expires a lease.
    const EXPIRY: Duration = Duration::from_secs(3);
    let length = stage.fault_length(20, 30);
    let began = Instant::now();
    silence(stage);
    sleep(length).await;
    let has_proxies = !stage.owner_link.0.is_empty();
    let listed = stage.listing.len();
    let expires = length > stage.ttl.max(Duration::from_secs(2)) + EXPIRY;
    ensure!(!expires || listed == 0, "no effect: {listed} leases were renewed over a silent link");
    let held = held(&stage.owner_link).min(held(&stage.view_link));
    ensure!(!has_proxies || held > 0, "no effect: no client sent anything over the silent links");
    // In about half of the runs, the link of views heals earlier than the link of owners.
    let share = if has_proxies && stage.random.bool() { stage.random.f64() / 2.0 } else { 0.0 };
    let owner_delay = stage.ttl.mul_f64(share);
    heal(stage, owner_delay).await;
    let healed = Instant::now();
    let stranded = stranded(stage).await?;
    let proof = format!(
        "silent for {length:?}, for owners {owner_delay:?} longer: {listed} listed before the heal, \
         {held} directions held, {stranded}"
    );
    Ok(Evidence::of_outage(began, healed, stage.ttl, proof))
}

fn silence(stage: &Stage) {
    match &stage.servers {
        Servers::Sentinel(servers) => servers.silence_clients(),
        Servers::Cluster(nodes) => nodes.silence_clients(),
        _ => {
            for proxy in links(stage) {
                proxy.inject(Fault::Blackhole);
            }
        }
    }
}

/// Makes the links accept new connections: the link of owners `owner_delay` after the link of views. All earlier
/// connections stay silent.
async fn heal(stage: &Stage, owner_delay: Duration) {
    match &stage.servers {
        Servers::Sentinel(servers) => servers.strand_clients(),
        Servers::Cluster(nodes) => nodes.strand_clients(),
        _ => {
            strand(&stage.view_link);
            sleep(owner_delay).await;
            strand(&stage.owner_link);
        }
    }
}

fn strand(link: &Link) {
    for proxy in &link.0 {
        proxy.strand();
        proxy.heal();
    }
}

/// Waits until a proxy has counted stranded connections.
async fn stranded(stage: &Stage) -> Result<String> {
    const NOTICED_WITHIN: Duration = Duration::from_secs(5);
    if stage.owner_link.0.is_empty() {
        return Ok("all connections stranded".to_owned());
    }
    let count = || links(stage).map(|proxy| proxy.hits().stranded).sum::<u64>();
    let any_stranded = async {
        while count() == 0 {
            pause().await;
        }
    };
    timeout(NOTICED_WITHIN, any_stranded).await.context("no effect: no connection is stranded")?;
    Ok(format!("{} connections stranded", count()))
}

fn links(stage: &Stage) -> impl Iterator<Item = &Proxy> {
    stage.owner_link.0.iter().chain(&stage.view_link.0)
}

fn held(link: &Link) -> u64 {
    link.0.iter().map(|proxy| proxy.hits().held_directions).sum()
}
