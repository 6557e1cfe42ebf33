//! How late an expiry is seen on etcd when a thousand expire together. The report has expiries one by one, on all stores.

use crate::arms::Ours;
use crate::harness::{EtcdServer, Figure, Figures, Latencies};
use crate::workloads::{Contender, ExpiryPlan};
use anyhow::{Context, Result};
use std::time::Duration;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (count, seconds, rounds) = if quick { (200, 2, 1) } else { (1_000, 5, 7) };
    let server = EtcdServer::start().await?;
    let ours = Ours::new(server.registry().await?);
    let (ttl, patience) = (Duration::from_secs(seconds), Duration::from_secs(60));
    let plan = ExpiryPlan { count, apart: None, ttl, others: 0, barrier: None, patience };
    let mut all = Vec::new();
    for _ in 0..rounds {
        // An expiry before the ttl fails it.
        all.extend(ours.expirations(plan).await?);
    }
    let all = Latencies::of(all.iter().map(Duration::as_secs_f64))?;
    let mut figures = Figures::default();
    let name = |what| format!("{count} at once, from their last renewal: {what} beyond the ttl");
    for (what, percent) in [("p50", 50.0), ("p99", 99.0)] {
        let late = all.percentile(percent).context("too few expired")?;
        figures.add(Figure::timed(name(what), late, "s"));
    }
    let (_, most) = all.range().context("nothing expired")?;
    figures.add(Figure::timed(name("max"), most, "s").at_most(1.0));
    figures.note(&server.description);
    figures.note(format!("{rounds} times, all renewed at once and then no more; ttl {ttl:?}; from before the first of these renewals was sent, so that the others are overstated"));
    Ok(figures)
}
