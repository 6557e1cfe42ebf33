//! Only the watches of views are silent. Other requests on their links work.

use crate::stage::{Evidence, Stage, pause};
use crate::tap::Status;
use crate::topology::Store;
use anyhow::{Context, Result, ensure};
use registry_core::{CallOptions, Claim, Instance};
use registry_testbed::proxy::{Fault, Hits, Proxy};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

pub(super) async fn run(stage: &mut Stage) -> Result<Evidence> {
    /// The time of silence after one ttl.
    const LONGER: Duration = Duration::from_secs(1);
    const LONG: Duration = Duration::from_secs(3_600);
    let store = stage.spec.cell.topology.store();
    let length = stage.ttl + LONGER;
    let began = Instant::now();
    for proxy in &stage.view_link.0 {
        match store {
            // Silences all connections that read a log. New connections work.
            Store::Redis => proxy.strand_marked(),
            // Silences all open streams. A new watch works.
            Store::Etcd => proxy.inject(Fault::SilentStreams),
        }
    }
    // A new instance makes live views outdated, and gives the proxy an event to drop.
    let newcomer =
        Instance::from_parts(stage.service.clone(), "late".parse()?, "10.0.0.2:8080".parse()?);
    stage.direct.register(&newcomer, &Claim::new(LONG)?, &CallOptions::DEFAULT).await?;
    let silenced = |hits: Hits| match store {
        Store::Redis => hits.stranded,
        Store::Etcd => hits.dropped_frames,
    };
    let count = || stage.view_link.0.iter().map(|proxy| silenced(proxy.hits())).sum::<u64>();
    let views = stage.taps.len() as u64;
    let all = async {
        while count() < views {
            pause().await;
        }
    };
    let all = timeout_at(began + length, all).await;
    all.with_context(|| format!("no effect: {} watches were silenced, not {views}", count()))?;
    sleep_until(began + length).await;
    let informed = stage.taps.iter().filter(|tap| {
        let states = tap.states_since(began);
        let first = states.iter().find(|state| state.len > stage.owners.len());
        first.is_some_and(|first| {
            !states.iter().any(|one| one.at <= first.at && one.status == Status::Stale)
        })
    });
    let informed = informed.count();
    ensure!(informed == 0, "no effect: {informed} views got a change from a silent watch");
    let proof = match store {
        Store::Redis => format!("{} connections of watches were silent", count()),
        Store::Etcd => format!("{} messages of watches were dropped", count()),
    };
    stage.view_link.0.iter().for_each(Proxy::heal);
    let evidence = Evidence::of_outage(began, Instant::now(), stage.ttl, proof);
    // The fault is only on the links of views.
    Ok(Evidence { spares_owners: true, ..evidence })
}
