//! How soon registrations replace deleted records, which they watch, and what these watches cost.

use crate::arms::{Arm, Ours, RawRedis, Request, etcd};
use crate::harness::etcd_server::{EtcdServer, OURS};
use crate::harness::fixture::{active, spread, start_all};
use crate::harness::{Figure, Figures, Heap, Latencies, Server, Store, as_f64, one_thread};
use crate::workloads::{RequestGenerator, Workload};
use anyhow::{Context, Result};
use etcd_client::DeleteOptions;
use futures_util::future::try_join_all;
use registry_core::{Change, InstanceId, Lease, Record, ServiceName};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};

/// The number of records that are deleted together.
const LOST: usize = 100;

/// A record that is lost twice within a ttl waits for the backoff.
const TTL: Duration = Duration::from_secs(2);

/// The deleted records, and when the deletion was acknowledged.
type Lost = Vec<(InstanceId, Instant)>;

pub(super) fn figures(store: Store, quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let rounds = if quick { 3 } else { 21 };
    let lost = Box::pin(lost(&mut figures, store, rounds));
    one_thread()?.block_on(LocalSet::new().run_until(lost))?;
    if store == Store::Etcd {
        let many = if quick { 1_000 } else { 100_000 };
        for services in [1, many / 100, many] {
            // The end of a runtime frees the memory of its tasks.
            one_thread()?.block_on(scale(&mut figures, services, many))?;
        }
        figures.note("reopened: from the restart of etcd until it has as many watchers again");
    }
    Ok(figures)
}

/// Deletes a hundred records at once, in turns with those of the raw client.
async fn lost(figures: &mut Figures, store: Store, rounds: usize) -> Result<()> {
    let server = Server::start(store).await?;
    let other = Ours::from(server.registry().await?);
    let (services, instances) = spread(1, LOST)?;
    let service = &services[0];
    let _registrations = start_all(&Arc::new(server.registry().await?), instances, TTL).await?;
    let kept = RequestGenerator::new(Workload::Register)?.requests(LOST)?;
    let raw_service = kept[0].instance.service();
    match &server {
        Server::Mem(_) => {}
        Server::Etcd(etcd) => keep(&etcd.raw().await?, &kept).await?,
        Server::Redis(redis) => keep(&redis.raw().await?, &kept).await?,
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        sleep(TTL.mul_f64(1.2)).await;
        if let Server::Etcd(server) = &server {
            let lost = Box::pin(delete(server, OURS, service, &other));
            times[0].extend(back(&other, service, lost).await?);
            let raw = server.raw().await?;
            let lost = Box::pin(delete(server, etcd::ROOT, raw_service, &raw));
            times[1].extend(back(&raw, raw_service, lost).await?);
        } else {
            let leases = leases(&other, service).await?;
            times[0].extend(back(&other, service, deregister(&other, leases)).await?);
            if let Server::Redis(server) = &server {
                let raw = server.raw().await?;
                let leases = kept
                    .iter()
                    .map(|request| (request.instance.id().clone(), RawRedis::lease(request)));
                let lost = deregister(&raw, leases.collect());
                times[1].extend(back(&raw, raw_service, lost).await?);
            }
        }
    }
    for (arm, times) in
        ["ours", "raw"].into_iter().zip(times).filter(|(_, times)| !times.is_empty())
    {
        figures.add(Figure::median(format!("{LOST} lost: back, {arm}"), &times, "ms"));
        let late = Latencies::of(times.iter().map(|ms| ms / 1e3))?;
        let p99 = late.percentile(99.0).unwrap_or(f64::NAN) * 1e3;
        let figure = Figure::timed(format!("{LOST} lost: p99, {arm}"), p99, "ms");
        figures.add(if arm == "ours" { figure.at_most(50.0) } else { figure });
    }
    figures.note(server.description());
    figures.note("back: from the response to each deregistration (on etcd, to the deletion of all keys) until a watch sees the record again");
    figures.note("raw: a watch that registers each deleted record again with the same writes");
    Ok(())
}

/// Returns the milliseconds until each deleted record is registered again.
async fn back<A: Arm>(
    arm: &A,
    service: &ServiceName,
    lost: impl Future<Output = Result<Lost>>,
) -> Result<Vec<f64>> {
    let mut watch = arm.watch(service, &arm.cursor(service).await?).await?;
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
    let both = async { tokio::try_join!(lost, seen) };
    let (lost, seen) = timeout(Duration::from_secs(30), both).await??;
    let back = |(id, since): (InstanceId, Instant)| {
        let at = seen.get(&id).context("a deleted record was not registered again")?;
        Ok(at.saturating_duration_since(since).as_secs_f64() * 1e3)
    };
    lost.into_iter().map(back).collect()
}

async fn deregister<A: Arm>(arm: &A, leases: Vec<(InstanceId, A::Lease)>) -> Result<Lost> {
    let lost = leases.into_iter().map(async |(id, lease)| {
        arm.deregister(lease).await?;
        anyhow::Ok((id, Instant::now()))
    });
    try_join_all(lost).await
}

/// Deletes all keys of a service, but not their leases.
async fn delete<A: Arm>(
    server: &EtcdServer,
    root: &str,
    service: &ServiceName,
    arm: &A,
) -> Result<Lost> {
    let listed = arm.load(service).await?;
    let options = DeleteOptions::new().with_prefix();
    server.client().await?.delete(format!("{root}/{service}/"), Some(options)).await?;
    let at = Instant::now();
    Ok(listed.iter().map(|record| (record.id().clone(), at)).collect())
}

/// Returns the leases of all instances, which other registrations own.
async fn leases(arm: &Ours, service: &ServiceName) -> Result<Vec<(InstanceId, Lease)>> {
    let lease = |record: &Record| {
        let (id, ttl, instance) = (record.lease()?, record.ttl()?, record.instance().clone());
        Some((record.id().clone(), Lease::new(id, ttl, instance, record.revision()?)))
    };
    let leases: Option<_> = arm.load(service).await?.iter().map(lease).collect();
    leases.context("a record has no lease")
}

/// Registers instances, and puts each deleted record again under its lease, which outlives the key.
async fn keep<A: Arm>(arm: &A, kept: &[Request]) -> Result<()> {
    let leases = try_join_all(kept.iter().map(|request| arm.register(request))).await?;
    let service = kept[0].instance.service();
    let mut watch = arm.watch(service, &arm.cursor(service).await?).await?;
    let (arm, kept) = (arm.clone(), kept.to_vec());
    spawn_local(async move {
        while let Ok(changes) = arm.next(&mut watch).await {
            let again = changes.iter().filter_map(|change| match change {
                Change::Delete(deleted) => {
                    kept.iter().position(|one| one.instance.id() == deleted.id())
                }
                Change::Put(_) => None,
            });
            let again = again.map(|n| arm.update(&leases[n], &kept[n]));
            if try_join_all(again).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Restarts etcd under many registrations.
async fn scale(figures: &mut Figures, services: usize, many: usize) -> Result<()> {
    let mut server = EtcdServer::start().await?;
    let store = Arc::new(server.registry().await?);
    let (_, instances) = spread(services, many)?;
    let (heap, begin) = (Heap::now(), Instant::now());
    let registrations = start_all(&store, instances, Duration::from_secs(600)).await?;
    let took = begin.elapsed().as_secs_f64();
    let expected = as_f64((services * (many / services).min(8)) as u64)
        + if many / services > 8 { as_f64(services) } else { 0.0 };
    server.wait_for_watchers(expected..=f64::MAX).await.context("after the registrations")?;
    let bytes = heap.grown() / as_f64(many);
    server.etcd.process()?.kill()?;
    let restart = Instant::now();
    server.etcd.process()?.restart().await?;
    let up = restart.elapsed().as_secs_f64();
    server.wait_for_watchers(expected..=f64::MAX).await.context("after the restart")?;
    let reopened = restart.elapsed().as_secs_f64();
    let name = |what: &str| format!("{services} services of {}: {what}", many / services);
    figures.add(Figure::timed(name("registered in"), took, "s"));
    figures.add(Figure::counted(name("watchers"), expected, ""));
    figures.add_heap(Figure::counted(name("each registration holds"), bytes, "B"));
    figures.add(Figure::timed(name("etcd up again"), up, "s"));
    figures.add(Figure::timed(name("watches reopened"), reopened, "s"));
    figures.add(
        Figure::counted(name("active"), as_f64(active(&registrations)), "").exactly(as_f64(many)),
    );
    Ok(())
}
