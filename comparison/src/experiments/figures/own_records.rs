//! Records that somebody deregisters behind their registrations' backs, on memory and Redis: how soon they are back.

use crate::arms::{Arm, Ours, RedisTwin, Request};
use crate::harness::fixture::{instance, service, start_all};
use crate::harness::{Figure, Figures, Latencies, RedisServer};
use crate::workloads::{RequestGenerator, Workload};
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use registry_core::{Change, InstanceId, Lease, Registry, ServiceName};
use registry_mem::MemRegistry;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

/// How many are deregistered together.
const LOST: usize = 100;

/// A record that is lost again within a ttl waits for the backoff.
const TTL: Duration = Duration::from_secs(2);

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (mut figures, rounds) = (Figures::default(), if quick { 3 } else { 21 });
    let mem = MemRegistry::new();
    measure(&mut figures, "memory", [mem.clone(), mem], rounds, None).await?;
    let server = RedisServer::start().await?;
    let registries = [server.registry().await?, server.registry().await?];
    // Each blocks its connection while it reads the log.
    let twins = [RedisTwin::connect(&server).await?, RedisTwin::connect(&server).await?];
    let measured = measure(&mut figures, "redis", registries, rounds, Some(twins));
    LocalSet::new().run_until(measured).await?;
    figures.note(&server.description);
    figures.note(
        "back: from the answer to each deregistration until a watch has seen the record again",
    );
    figures.note("raw: reads the log, and makes the same writes again for each that is deleted");
    Ok(figures)
}

/// Measures registrations of the first registry, whose records the second deregisters, in turns
/// with the twin: the first keeps, the second deregisters.
async fn measure<R: Registry>(
    figures: &mut Figures,
    name: &str,
    [registry, other]: [R; 2],
    rounds: usize,
    twins: Option<[RedisTwin; 2]>,
) -> Result<()> {
    let (service, other) = (service(0)?, Ours::new(other));
    let instances = (0..LOST).map(|n| instance(&service, n)).collect::<Result<Vec<_>>>()?;
    let _registrations = start_all(&Arc::new(registry), instances, TTL).await?;
    let raw = match &twins {
        Some([twin, _]) => Some(keep(twin).await?),
        None => None,
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        sleep(TTL.mul_f64(1.2)).await;
        let listed = other.load(&service).await?;
        let lease = |record: &registry_core::Record| {
            let (id, ttl) = (record.lease()?, record.ttl()?);
            Some((
                record.id().clone(),
                Lease::new(id, ttl, record.instance().clone(), record.revision()?),
            ))
        };
        let leases: Option<Vec<_>> = listed.iter().map(lease).collect();
        times[0]
            .extend(deregister(&other, &service, leases.context("a record has no lease")?).await?);
        if let (Some([_, twin]), Some(requests)) = (&twins, &raw) {
            let leases = requests
                .iter()
                .map(|request| (request.instance.id().clone(), RedisTwin::lease(request)))
                .collect();
            times[1].extend(deregister(twin, requests[0].instance.service(), leases).await?);
        }
    }
    for (arm, times) in
        ["ours", "raw"].into_iter().zip(&times).filter(|(_, times)| !times.is_empty())
    {
        figures.add(Figure::median(format!("{name}, {LOST} lost: back, {arm}"), times, "ms"));
        let late = Latencies::of(times.iter().map(|ms| ms / 1e3))?;
        let p99 = late.percentile(99.0).unwrap_or(f64::NAN) * 1e3;
        let figure = Figure::timed(format!("{name}, {LOST} lost: p99, {arm}"), p99, "ms");
        figures.add(if arm == "ours" { figure.at_most(50.0) } else { figure });
    }
    Ok(())
}

/// Deregisters all together. Returns the times in milliseconds until each is back.
async fn deregister<A: Arm>(
    arm: &A,
    service: &ServiceName,
    leases: Vec<(InstanceId, A::Lease)>,
) -> Result<Vec<f64>> {
    let mut watch = arm.watch(service, &arm.cursor(service).await?).await?;
    let gone = leases.into_iter().map(async |(id, lease)| {
        arm.deregister(lease).await?;
        anyhow::Ok((id, Instant::now()))
    });
    let seen = async {
        let mut seen = HashMap::new();
        while seen.len() < LOST {
            for change in arm.next(&mut watch).await? {
                if let Change::Put(record) = change {
                    seen.entry(record.id().clone()).or_insert_with(Instant::now);
                }
            }
        }
        anyhow::Ok(seen)
    };
    let both = async { tokio::try_join!(try_join_all(gone), seen) };
    let (gone, seen) = timeout(Duration::from_secs(30), both).await??;
    let back = |(id, since): (InstanceId, Instant)| {
        let at = seen.get(&id).context("a record did not come back")?;
        Ok(at.saturating_duration_since(since).as_secs_f64() * 1e3)
    };
    gone.into_iter().map(back).collect()
}

/// Registers with the twin, which registers each again that is deleted.
async fn keep(twin: &RedisTwin) -> Result<Vec<Request>> {
    let requests = RequestGenerator::new(Workload::Register)?.requests(LOST)?;
    try_join_all(requests.iter().map(|request| twin.register(request))).await?;
    let service = requests[0].instance.service().clone();
    let mut log = twin.watch(&service, &twin.cursor(&service).await?).await?;
    let (twin, kept) = (twin.clone(), requests.clone());
    spawn_local(async move {
        while let Ok(changes) = twin.next(&mut log).await {
            let deleted = changes.iter().filter_map(|change| match change {
                Change::Delete(deleted) => Some(deleted.id()),
                Change::Put(_) => None,
            });
            let again = deleted.filter_map(|id| kept.iter().find(|one| one.instance.id() == id));
            if try_join_all(again.map(|request| twin.register(request))).await.is_err() {
                return;
            }
        }
    });
    Ok(requests)
}
