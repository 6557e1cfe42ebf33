//! A server with 100,000 registrations of one process is paused: how many expire, and when all are registered again.

use super::renewals::SERVICES;
use crate::harness::fixture::{active, spread, start_all};
use crate::harness::{Figure, Figures, Server, Store, as_f64};
use anyhow::{Context, Result};
use registry_core::{CallOptions, InstanceId, Registry, Revision, ServiceName};
use registry_engine::Registration;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The length of the pause as a part of the ttl. The last pause outlasts all leases.
const PARTS: [(&str, f64); 3] = [("1/6", 1.0 / 6.0), ("2/5", 0.4), ("4/3", 4.0 / 3.0)];

/// The records, each with the revision at which it was put.
type PutRevisions = HashMap<(ServiceName, InstanceId), Revision>;

pub(super) async fn figures(store: Store, quick: bool) -> Result<Figures> {
    let (many, ttl) = if quick { (1_000, 6) } else { (100_000, 30) };
    let (mut figures, ttl) = (Figures::default(), Duration::from_secs(ttl));
    let mut server = Server::start(store).await?;
    figures.note(server.description());
    figures
        .note(format!("ttl {ttl:?}; put again: counted one ttl after all were registered again"));
    let (services, instances) = spread(SERVICES, many)?;
    let registry = Arc::new(server.registry().await?);
    let registrations = start_all(&registry, instances, ttl).await?;
    for (name, part) in PARTS {
        let before = put_revisions(&server, &services).await?;
        server.process()?.pause()?;
        sleep(ttl.mul_f64(part)).await;
        server.process()?.resume()?;
        let start = Instant::now();
        let restored = timeout(ttl * 6, wait_for_all(&server, &services, &registrations)).await;
        let restored = restored.map_or(f64::INFINITY, |()| start.elapsed().as_secs_f64());
        sleep(ttl).await;
        let after = put_revisions(&server, &services).await?;
        let put_again =
            before.iter().filter(|(id, revision)| after.get(*id) != Some(*revision)).count();
        let inactive = many - active(&registrations);
        let name = |what: &str| format!("{many}, paused for {name} of a ttl: {what}");
        figures.add(Figure::timed(name("all registered after"), restored, "s"));
        let put_again = Figure::timed(name("put again or missing"), as_f64(put_again), "");
        figures.add(if part < 1.0 { put_again.at_most(0.0) } else { put_again });
        figures.add(Figure::timed(name("not active"), as_f64(inactive), "").at_most(0.0));
    }
    Ok(figures)
}

/// Waits until all registrations are active and listed.
async fn wait_for_all(server: &Server, services: &[ServiceName], registrations: &[Registration]) {
    const PAUSE: Duration = Duration::from_millis(200);
    loop {
        sleep(PAUSE).await;
        // A load may time out on a busy server.
        if active(registrations) == registrations.len()
            && put_revisions(server, services)
                .await
                .is_ok_and(|all| all.len() == registrations.len())
        {
            return;
        }
    }
}

async fn put_revisions(server: &Server, services: &[ServiceName]) -> Result<PutRevisions> {
    let (registry, mut revisions) = (server.registry().await?, HashMap::new());
    for service in services {
        for record in registry.load(service, &CallOptions::DEFAULT).await?.records() {
            let revision = record.revision().context("a record without a revision")?;
            revisions.insert((service.clone(), record.id().clone()), revision);
        }
    }
    Ok(revisions)
}
