//! Views reconnect over a slow link to a large backlog. A view must not be live before it has the backlog.

use crate::stage::{Evidence, Stage, pause};
use crate::tap::{State, Status};
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use registry_core::{CallOptions, Claim, Instance};
use registry_testbed::proxy::{Fault, Proxy};
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    const CHANGES: usize = 100;
    /// The size of a change in bytes. All changes together take about a second.
    const METADATA: usize = 1_000;
    /// The bandwidth of the slow link. It is enough to complete a load within a ttl.
    const BYTES_PER_SECOND: u32 = 150_000;
    const LONG: Duration = Duration::from_secs(3_600);
    const NOTICED_WITHIN: Duration = Duration::from_secs(5);
    const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

    let began = Instant::now();
    for proxy in &stage.view_link.0 {
        proxy.inject(Fault::Refuse);
        proxy.cut();
    }
    let is_stale = |state: State| state.status == Status::Stale;
    let all_stale = async {
        while !stage.taps.iter().all(|tap| tap.last().is_some_and(is_stale)) {
            pause().await;
        }
    };
    timeout(NOTICED_WITHIN, all_stale)
        .await
        .context("no effect: views are live without a connection")?;

    let text: String =
        std::iter::repeat_with(|| stage.random.alphanumeric()).take(METADATA).collect();
    let claim = || Claim::new(LONG); // each claim has its own lease
    let changes = (0..CHANGES).map(async |n| {
        let id = format!("late-{n:03}").parse()?;
        let instance = Instance::from_parts(stage.service.clone(), id, "10.0.0.2:8080".parse()?);
        let instance = instance.with_metadata([("text", text.as_str())]);
        stage.direct.register(&instance, &claim()?, &CallOptions::DEFAULT).await?;
        anyhow::Ok(())
    });
    try_join_all(changes).await?;

    let all = stage.owners.len() + CHANGES;
    for proxy in &stage.view_link.0 {
        proxy.inject(Fault::Throttle { bytes_per_second: BYTES_PER_SECOND });
    }
    let healed = Instant::now();
    let arrived = async {
        while !stage.taps.iter().all(|tap| tap.shows(all)) {
            pause().await;
        }
    };
    timeout(ARRIVES_WITHIN, arrived).await.context("the backlog did not arrive")?;
    let took = healed.elapsed();
    let bytes: u64 = stage.view_link.0.iter().map(|proxy| proxy.hits().throttled_bytes).sum();
    stage.view_link.0.iter().for_each(Proxy::heal);
    ensure!(bytes > (CHANGES * METADATA) as u64, "no effect: only {bytes} bytes were throttled");

    // A view that is live without the whole backlog counts as stale too late.
    let early = stage.taps.iter().filter(|tap| {
        let is_early = |status, len| status == Status::Live && len < all;
        tap.states_since(healed).iter().any(|state| is_early(state.status, state.len))
    });
    let late_stale = u32::try_from(early.count()).unwrap_or(u32::MAX);
    let proof = format!("{CHANGES} changes arrived within {took:?}, {bytes} bytes were throttled");
    let evidence = Evidence::of_outage(began, healed, stage.ttl, proof);
    Ok(Evidence { cut_views: false, late_stale, tail: Duration::ZERO, ..evidence })
}
