//! Replies to a start are delayed, while a newer incarnation of the same instance starts.

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

/// Where the older one is, which only its claim says.
const ADDRESS: &str = "10.77.88.99:8080";

/// How long both may say that they are active, when replies are no longer delayed.
const BOTH_ACTIVE: Duration = Duration::from_secs(1);

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    const LANDS_WITHIN: Duration = Duration::from_secs(5);
    const SUPERSEDED: Duration = Duration::from_secs(1);
    let delay = if stage.random.bool() { 2_600 } else { 4_000 };
    let delay = Duration::from_millis(delay);
    let between = Duration::from_millis(stage.random.u64(0..1_000));
    let link = stage.servers.link().await?;
    let slow = connect(&stage.servers.url_behind(&link, stage.ttl)).await?;
    // What comes before the claim, as the grant of a lease, is answered at once: else the claim may never be sent.
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
    landed.context("no effect: the older claim does not reach the store")?;
    sleep(between).await;
    ensure!(!older.is_active(), "no effect: the older claim was acknowledged at once");
    let newer = Owner::start(stage.direct.clone(), &stage.service, CONTESTED).await?;
    let acknowledged = Instant::now();
    // The older one may now send claim after claim, each of which arrives.
    sleep(3 * delay + stage.ttl).await;
    let delayed: u64 = link.0.iter().map(|proxy| proxy.hits().delayed_chunks).sum();
    link.0.iter().for_each(Proxy::heal);
    let healed = Instant::now();
    ensure!(delayed > 0, "no effect: no reply was delayed");

    // A displaced registration notices by its own record, or at a renewal.
    let settled = repair_bound(Store::Etcd, stage.ttl).max(return_bound(stage.ttl)) + SUPERSEDED;
    sleep(settled).await;
    let mut problems = Vec::new();
    let hands = stage.listing.leases(older.id()).len();
    if hands > 2 {
        problems.push(format!("the id had {hands} holders one after the other, of two starts"));
    }
    let (one, other) = (older.registration.status(), newer.registration.status());
    if !(older.is_superseded() && newer.is_active()) {
        problems.push(format!("the older says `{one}`, the newer `{other}`"));
    }
    if !stage.listing.has(older.id()) {
        problems.push("the contested instance is not listed".to_owned());
    }
    let both = both_active(&older, &newer, healed);
    let double_holders = u32::from(both > BOTH_ACTIVE || hands > 2);
    let held = acknowledged - began;
    let proof = format!(
        "replies delayed by {delay:?}, {delayed} chunks; the newer was acknowledged {held:?} after the older \
         began; {hands} holders; both active for {both:?}; the older says `{one}`, the newer `{other}`"
    );
    let evidence = Evidence::of_outage(began, healed, stage.ttl, proof);
    // The contested instance must be shown until the end of the record.
    stage.owners.push(newer);
    stage.displaced = Some(older);
    Ok(Evidence { cut_views: false, tail: settled, double_holders, problems, ..evidence })
}
