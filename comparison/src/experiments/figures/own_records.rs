//! Each registration watches its own record: how soon it restores a deleted one, and what the watches cost.

use crate::arms::{Arm, Ours, RawRedis, Request, etcd};
use crate::harness::etcd_server::{EtcdServer, REGISTRY_PREFIX};
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
const DELETED_COUNT: usize = 100;

/// The ttl of the registrations. A record that is deleted twice within a ttl is restored only after a backoff.
const TTL: Duration = Duration::from_secs(2);

/// The deleted records, and when the deletion was acknowledged.
type Deletions = Vec<(InstanceId, Instant)>;

pub(super) fn figures(store: Store, quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let rounds = if quick { 3 } else { 21 };
    let restoration = Box::pin(measure_restoration(&mut figures, store, rounds));
    one_thread()?.block_on(LocalSet::new().run_until(restoration))?;
    if store == Store::Etcd {
        let many = if quick { 1_000 } else { 100_000 };
        for services in [1, many / 100, many] {
            // The end of a runtime frees the memory of its tasks.
            one_thread()?.block_on(measure_restart(&mut figures, services, many))?;
        }
        figures.note("watches reopened: from the restart of etcd until it has at least the expected watchers");
    }
    Ok(figures)
}

/// Measures how soon 100 records deleted together are registered again, alternating with the raw client.
async fn measure_restoration(figures: &mut Figures, store: Store, rounds: usize) -> Result<()> {
    let server = Server::start(store).await?;
    let observer = Ours::new(server.registry().await?);
    let (services, instances) = spread(1, DELETED_COUNT)?;
    let service = &services[0];
    let _registrations = start_all(&Arc::new(server.registry().await?), instances, TTL).await?;
    let raw_requests = RequestGenerator::new(Workload::Register)?.requests(DELETED_COUNT)?;
    let raw_service = raw_requests[0].instance.service();
    match &server {
        Server::Mem(_) => {}
        Server::Etcd(etcd) => register_and_restore(&etcd.raw().await?, &raw_requests).await?,
        Server::Redis(redis) => register_and_restore(&redis.raw().await?, &raw_requests).await?,
    }
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        sleep(TTL.mul_f64(1.2)).await;
        if let Server::Etcd(server) = &server {
            let deletion = Box::pin(delete_keys(server, REGISTRY_PREFIX, service, &observer));
            times[0].extend(restore_times(&observer, service, deletion).await?);
            let raw = server.raw().await?;
            let deletion = Box::pin(delete_keys(server, etcd::RAW_PREFIX, raw_service, &raw));
            times[1].extend(restore_times(&raw, raw_service, deletion).await?);
        } else {
            let deletion = deregister(&observer, leases(&observer, service).await?);
            times[0].extend(restore_times(&observer, service, deletion).await?);
            if let Server::Redis(server) = &server {
                let raw = server.raw().await?;
                let leases = raw_requests
                    .iter()
                    .map(|request| (request.instance.id().clone(), RawRedis::lease(request)));
                let deletion = deregister(&raw, leases.collect());
                times[1].extend(restore_times(&raw, raw_service, deletion).await?);
            }
        }
    }
    let arms = ["ours", "raw"].into_iter().zip(times);
    for (arm, times) in arms.filter(|(_, times)| !times.is_empty()) {
        let name = |p: &str| format!("{DELETED_COUNT} deleted records: {p} until restored, {arm}");
        figures.add(Figure::median(name("p50"), &times, "ms"));
        let latencies = Latencies::new(times.iter().map(|ms| ms / 1e3))?;
        let p99 = latencies.percentile(99.0).unwrap_or(f64::NAN) * 1e3;
        let figure = Figure::timed(name("p99"), p99, "ms");
        figures.add(if arm == "ours" { figure.at_most(50.0) } else { figure });
    }
    figures.note(server.description());
    figures.note("restored: from the response to the deregistration (on etcd, to the deletion of all keys) until a watch shows the record");
    figures.note("raw: a client that watches the service, and updates each deleted record, which writes it again");
    Ok(())
}

/// Returns the milliseconds until each deleted record is registered again.
async fn restore_times<A: Arm>(
    arm: &A,
    service: &ServiceName,
    deletion: impl Future<Output = Result<Deletions>>,
) -> Result<Vec<f64>> {
    let mut watch = arm.watch(service, &arm.cursor(service).await?).await?;
    let restoration = async {
        let mut restored = HashMap::new();
        while restored.len() < DELETED_COUNT {
            for change in arm.next(&mut watch).await? {
                if let Change::Put(record) = change {
                    restored.entry(record.id().clone()).or_insert_with(Instant::now);
                }
            }
        }
        anyhow::Ok(restored)
    };
    let both = async { tokio::try_join!(deletion, restoration) };
    let (deletions, restored) = timeout(Duration::from_secs(30), both).await??;
    let restore_time = |(id, deleted_at): (InstanceId, Instant)| {
        let restored_at = restored.get(&id).context("a deleted record was not registered again")?;
        Ok(restored_at.saturating_duration_since(deleted_at).as_secs_f64() * 1e3)
    };
    deletions.into_iter().map(restore_time).collect()
}

async fn deregister<A: Arm>(arm: &A, leases: Vec<(InstanceId, A::Lease)>) -> Result<Deletions> {
    let deletions = leases.into_iter().map(async |(id, lease)| {
        arm.deregister(lease).await?;
        anyhow::Ok((id, Instant::now()))
    });
    try_join_all(deletions).await
}

/// Deletes all keys of a service, but not their leases.
async fn delete_keys<A: Arm>(
    server: &EtcdServer,
    prefix: &str,
    service: &ServiceName,
    arm: &A,
) -> Result<Deletions> {
    let listed = arm.load(service).await?;
    let options = DeleteOptions::new().with_prefix();
    server.client().await?.delete(format!("{prefix}/{service}/"), Some(options)).await?;
    let deleted_at = Instant::now();
    Ok(listed.iter().map(|record| (record.id().clone(), deleted_at)).collect())
}

/// Returns the leases of all instances of a service, from its records. The owners of the leases keep them.
async fn leases(arm: &Ours, service: &ServiceName) -> Result<Vec<(InstanceId, Lease)>> {
    let lease = |record: &Record| {
        let (id, ttl, instance) = (record.lease()?, record.ttl()?, record.instance().clone());
        Some((record.id().clone(), Lease::new(id, ttl, instance, record.revision()?)))
    };
    let leases: Option<_> = arm.load(service).await?.iter().map(lease).collect();
    leases.context("a record has no lease")
}

/// Registers instances, and updates each deleted record, which writes it again. On etcd its lease outlives the key.
async fn register_and_restore<A: Arm>(arm: &A, requests: &[Request]) -> Result<()> {
    let leases = try_join_all(requests.iter().map(|request| arm.register(request))).await?;
    let service = requests[0].instance.service();
    let mut watch = arm.watch(service, &arm.cursor(service).await?).await?;
    let (arm, requests) = (arm.clone(), requests.to_vec());
    spawn_local(async move {
        while let Ok(changes) = arm.next(&mut watch).await {
            let deleted = changes.iter().filter_map(|change| match change {
                Change::Delete(deleted) => {
                    requests.iter().position(|request| request.instance.id() == deleted.id())
                }
                Change::Put(_) => None,
            });
            let restores = deleted.map(|n| arm.update(&leases[n], &requests[n]));
            if try_join_all(restores).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Restarts etcd while a process has many registrations, and measures until their watches are open again.
async fn measure_restart(figures: &mut Figures, services: usize, many: usize) -> Result<()> {
    let mut server = EtcdServer::start().await?;
    let store = Arc::new(server.registry().await?);
    let (_, instances) = spread(services, many)?;
    let (heap, begin) = (Heap::now(), Instant::now());
    let registrations = start_all(&store, instances, Duration::from_secs(600)).await?;
    let took = begin.elapsed().as_secs_f64();
    // Per service, the first 8 registrations have a watch each, and all others share one.
    let at_least = as_f64(services * (many / services).min(9));
    server.wait_for_watchers(at_least..=f64::MAX).await.context("after the registrations")?;
    let bytes = heap.grown() / as_f64(many);
    server.etcd.process()?.kill()?;
    let restart = Instant::now();
    server.etcd.process()?.restart().await?;
    let up = restart.elapsed().as_secs_f64();
    server.wait_for_watchers(at_least..=f64::MAX).await.context("after the restart")?;
    let reopened = restart.elapsed().as_secs_f64();
    let name = |what: &str| format!("{services} services of {} instances: {what}", many / services);
    figures.add(Figure::timed(name("all registered after"), took, "s"));
    figures.add(Figure::counted(name("expected watchers"), at_least, ""));
    figures.add_heap(Figure::counted(name("memory per registration"), bytes, "B"));
    figures.add(Figure::timed(name("etcd accepts calls after"), up, "s"));
    figures.add(Figure::timed(name("watches reopened after"), reopened, "s"));
    let active = Figure::counted(name("active"), as_f64(active(&registrations)), "");
    figures.add(active.exactly(as_f64(many)));
    Ok(())
}
