//! Replies to a registration are delayed, while a newer incarnation of the instance registers.

use crate::bounds::{repair_bound, return_bound};
use crate::owner::{Owner, both_active};
use crate::servers::connect;
use crate::stage::{Evidence, Stage, pause};
use crate::topology::Store;
use anyhow::{Context, Result, ensure};
use registry_engine::Start;
use registry_testbed::proxy::{Fault, Proxy};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The instance that both incarnations register.
const CONTESTED: &str = "contested";

/// The address of the older incarnation. Only the older claim contains this address.
const ADDRESS: &str = "10.77.88.99:8080";

/// The maximum time that both incarnations may be active after the heal.
const BOTH_ACTIVE: Duration = Duration::from_secs(1);

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    const LANDS_WITHIN: Duration = Duration::from_secs(5);
    const SUPERSEDED: Duration = Duration::from_secs(1);
    let delay = if stage.random.bool() { 2_600 } else { 4_000 };
    let delay = Duration::from_millis(delay);
    let between = Duration::from_millis(stage.random.u64(0..1_000));
    let link = stage.servers.link().await?;
    let slow = connect(&stage.servers.url_behind(&link, stage.ttl)).await?;
    // Only replies after the claim are delayed. Delayed replies to earlier requests, such as the grant of a lease,
    // could prevent the claim.
    let fault = Fault::DelayReplies { each: delay };
    link.0.iter().for_each(|proxy| proxy.inject_from(ADDRESS, fault));

    let began = Instant::now();
    let start = Start::InBackground;
    let older = Owner::start_with(slow, &stage.service, CONTESTED, ADDRESS, start).await?;
    let landed = async {
        while !stage.listing.has(older.id()) {
            pause().await;
        }
    };
    let landed = timeout(LANDS_WITHIN, landed).await;
    landed.context("no effect: the older claim did not reach the store")?;
    sleep(between).await;
    ensure!(!older.is_active(), "no effect: the older claim was acknowledged at once");
    let newer = Owner::start(stage.direct.clone(), &stage.service, CONTESTED).await?;
    let acknowledged = Instant::now();
    // In this time the older incarnation may repeat its claim, and each request arrives.
    sleep(3 * delay + stage.ttl).await;
    let delayed: u64 = link.0.iter().map(|proxy| proxy.hits().delayed_chunks).sum();
    link.0.iter().for_each(Proxy::heal);
    let healed = Instant::now();
    ensure!(delayed > 0, "no effect: no reply was delayed");

    // A displaced registration notices through its own-record watch or at a renewal.
    let settled = repair_bound(Store::Etcd, stage.ttl).max(return_bound(stage.ttl)) + SUPERSEDED;
    sleep(settled).await;
    let mut problems = Vec::new();
    let holders = stage.listing.leases(older.id()).len();
    if holders > 2 {
        problems.push(format!("the id had {holders} successive holders, but two registrations"));
    }
    let (older_status, newer_status) = (older.registration.status(), newer.registration.status());
    if !(older.is_superseded() && newer.is_active()) {
        problems.push(format!(
            "the status of the older is `{older_status}`, of the newer `{newer_status}`"
        ));
    }
    if !stage.listing.has(older.id()) {
        problems.push("the contested instance is not listed".to_owned());
    }
    let both = both_active(&older, &newer, healed);
    let double_holders = u32::from(both > BOTH_ACTIVE || holders > 2);
    let overtaken = acknowledged - began;
    let proof = format!(
        "replies delayed by {delay:?}, {delayed} chunks; the newer was acknowledged {overtaken:?} after the older \
         began; {holders} holders; both active for {both:?}; the older is `{older_status}`, the newer `{newer_status}`"
    );
    let evidence = Evidence::of_outage(began, healed, stage.ttl, proof);
    // Views must show the contested instance until the end.
    stage.owners.push(newer);
    stage.displaced = Some(older);
    Ok(Evidence { cut_views: false, tail: settled, double_holders, problems, ..evidence })
}
