//! A process with 1,000 instances crashes: when each is seen to expire.

use crate::registrant::RegistrantProcess;
use crate::server::Server;
use anyhow::{Context, Result, bail};
use comparison::figures::{Figure, Report};
use comparison::sections::one_thread;
use futures_util::StreamExt;
use registry_core::{CallOptions, Change, LeaseId, Registry, ServiceName, Watch};
use std::time::Duration;
use tokio::time::{Instant, timeout};

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (many, ttl, rounds) = if quick { (200, 2, 1) } else { (1_000, 5, 7) };
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let (mut from_kill, mut from_renewal) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let crash = kill(&server, many, ttl).await?;
            let ttl = Duration::from_secs(ttl).as_secs_f64();
            let late = |since: Instant| {
                crash.deleted.iter().map(move |at| (*at - since).as_secs_f64() - ttl)
            };
            from_kill.extend(late(crash.killed));
            from_renewal.extend(late(crash.renewing));
        }
        from_kill.sort_by(f64::total_cmp);
        from_renewal.sort_by(f64::total_cmp);
        let mut report = Report::default();
        let name = |what: &str| format!("{many} at once, from the kill: {what}");
        report.add(Figure::timed(name("p50 beyond the ttl"), quantile(&from_kill, 50), "s"));
        report.add(Figure::timed(name("p99 beyond the ttl"), quantile(&from_kill, 99), "s"));
        report.add(Figure::timed(name("max beyond the ttl"), quantile(&from_kill, 100), "s"));
        let name = |what: &str| format!("{many} at once, from their last renewal: {what}");
        let max = quantile(&from_renewal, 100);
        report.add(Figure::timed(name("p50 beyond the ttl"), quantile(&from_renewal, 50), "s"));
        report.add(Figure::timed(name("p99 beyond the ttl"), quantile(&from_renewal, 99), "s"));
        report.add(Figure::timed(name("max beyond the ttl"), max, "s").at_most(1.0));
        let early = from_renewal.iter().filter(|late| **late < 0.0).count();
        let early = f64::from(u32::try_from(early)?);
        report.add(Figure::counted(name("before the ttl"), early, "").exactly(0.0));
        report.note(&server.description);
        report.note(format!("{rounds} processes, killed (SIGKILL) as soon as all their leases were renewed; ttl {ttl} s"));
        report.note("from the last renewal: from before the first of the last renewals was sent, so that the others' are overstated");
        Ok(report)
    })
}

/// What was seen of a crash.
struct Crash {
    renewing: Instant,
    killed: Instant,
    deleted: Vec<Instant>,
}

/// Starts a process that registers and renews so many, and kills it.
async fn kill(server: &Server, many: usize, ttl: u64) -> Result<Crash> {
    let registry = server.registry().await?;
    let service = ServiceName::new(format!("crash-{}", LeaseId::random()))?;
    let cursor = registry.load(&service, &CallOptions::DEFAULT).await?.cursor().clone();
    let watch = registry.watch(&service, &cursor, &CallOptions::DEFAULT).await?;
    let seen = tokio::spawn(deletions(watch, many));
    let mut running = RegistrantProcess::start(&server.address, service.as_str(), many, ttl)?;
    let limit = Duration::from_secs(ttl + 60);
    let killed = timeout(limit, running.kill_when_renewed()).await;
    let [renewing, killed] = killed.context("nothing was renewed")??;
    let deleted = timeout(limit, seen).await.context("not all expired")???;
    if let Some(first) = deleted.iter().find(|at| **at < killed) {
        bail!("one was deleted {:?} before the kill", killed - *first);
    }
    Ok(Crash { renewing, killed, deleted })
}

/// When each deletion was seen.
async fn deletions(mut watch: Watch, many: usize) -> Result<Vec<Instant>> {
    let mut deleted = Vec::with_capacity(many);
    while deleted.len() < many {
        let batch = watch.next().await.context("the watch ended")??;
        let deletions = batch.changes.iter().filter(|change| matches!(change, Change::Delete(_)));
        deleted.extend(deletions.map(|_| Instant::now()));
    }
    Ok(deleted)
}

/// What so many percent are at most.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}
