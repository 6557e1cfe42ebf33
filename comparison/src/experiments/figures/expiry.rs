//! How late an expiry is seen: on Redis beside many live instances, with the registry and with keys with a ttl; and on
//! etcd when a thousand expire together.

use crate::arms::{Keyspace, Ours};
use crate::harness::{EtcdServer, Figure, Figures, Latencies, RedisLink, RedisServer};
use crate::workloads::{Contender, ExpiryPlan};
use anyhow::{Context, Result};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// On Redis: the ttl of the probes is a second.
const PROBES: ExpiryPlan<'static> = ExpiryPlan {
    count: 200,
    apart: Some(Duration::from_millis(25)),
    ttl: SECOND,
    others: 0,
    barrier: None,
    patience: Duration::from_secs(60),
};

pub(super) async fn redis(quick: bool) -> Result<Figures> {
    let counts: &[usize] = if quick { &[100] } else { &[100, 10_000, 100_000] };
    let mut figures = Figures::default();
    let patience = if quick { SECOND * 5 } else { PROBES.patience };
    for &others in counts {
        let plan = ExpiryPlan { others, patience, ..PROBES };
        let server = RedisServer::start().await?;
        let ours = late(&Ours::new(server.registry().await?), plan).await?;
        let server = RedisServer::start().await?;
        let link = RedisLink::new(server.redis.url(), SECOND * 10)?;
        let keys = late(&Keyspace(link), plan).await?;
        let name = |whose: &str, p: f64| format!("beside {others}: {whose}, p{p}");
        let figure = |whose: &str, p: f64, late: &Latencies| {
            Figure::timed(name(whose, p), at(late, p) * 1e3, "ms")
        };
        figures.add(figure("ours", 50.0, &ours));
        figures.add(figure("ours", 99.0, &ours).at_most(100.0).aim(50.0));
        figures.add(figure("keys with a ttl", 50.0, &keys));
        figures.add(figure("keys with a ttl", 99.0, &keys));
        let better = at(&keys, 99.0) / at(&ours, 99.0);
        figures.add(Figure::timed(format!("beside {others}: p99, keys / ours"), better, "x"));
        if others == counts[counts.len() - 1] {
            figures.note(&server.description);
        }
    }
    let ExpiryPlan { count, ttl, .. } = PROBES;
    figures.note(format!("{count} expire, one every 25 ms, {ttl:?} after registration; from before that call to the event, minus the ttl"));
    figures.note(format!("keys: SET PX, and notifications; what was not notified {patience:?} later counts as {patience:?}"));
    Ok(figures)
}

pub(super) async fn etcd(quick: bool) -> Result<Figures> {
    let (count, seconds, rounds) = if quick { (200, 2, 1) } else { (1_000, 5, 7) };
    let server = EtcdServer::start().await?;
    let ours = Ours::new(server.registry().await?);
    let ttl = SECOND * seconds;
    let plan = ExpiryPlan { count, apart: None, ttl, others: 0, barrier: None, ..PROBES };
    let mut all = Vec::new();
    for _ in 0..rounds {
        // An expiry before the ttl fails it.
        all.extend(ours.expirations(plan).await?);
    }
    let all = Latencies::of(all.iter().map(Duration::as_secs_f64))?;
    let mut figures = Figures::default();
    let name =
        |what: &str| format!("{count} at once, from their last renewal: {what} beyond the ttl");
    for (what, percent) in [("p50", 50.0), ("p99", 99.0)] {
        figures.add(Figure::timed(name(what), at(&all, percent), "s"));
    }
    let (_, most) = all.range().context("nothing expired")?;
    figures.add(Figure::timed(name("max"), most, "s").at_most(1.0));
    figures.note(&server.description);
    figures.note(format!("{rounds} times, all renewed at once and then no more; ttl {ttl:?}; from before the first of these renewals was sent, so that the others are overstated"));
    Ok(figures)
}

async fn late(arm: &dyn Contender, plan: ExpiryPlan<'_>) -> Result<Latencies> {
    Latencies::of(arm.expirations(plan).await?.iter().map(Duration::as_secs_f64))
}

/// In seconds; not a number where there is none.
fn at(late: &Latencies, percent: f64) -> f64 {
    late.percentile(percent).unwrap_or(f64::NAN)
}
