//! Registrations that watch their own records: how soon a deleted record is back, and what the watches cost.

use crate::harness::etcd_server::{OURS, RAW};
use crate::harness::fixture::start_all;
use crate::harness::{EtcdServer, Figure, Figures, Heap, Latencies, as_f64};
use anyhow::{Context, Result};
use etcd_client::{Client, DeleteOptions, EventType, PutOptions, WatchOptions};
use futures_util::future::try_join_all;
use registry_core::{Instance, ServiceName};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// How many records are deleted together.
const LOST: usize = 100;

/// The ttl of those. A record that is lost again within a ttl waits for the backoff.
const TTL: Duration = Duration::from_secs(2);

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (rounds, many) = if quick { (3, 1_000) } else { (21, 100_000) };
    let mut figures = Figures::default();
    deleted(&mut figures, rounds).await?;
    for services in [1, many / 100, many] {
        scale(&mut figures, services, many).await?;
    }
    figures.note("back: from the answer to the deletion until a watch of all keys has seen each record again");
    figures.note(
        "raw: a watcher for each key on one stream, which puts the key again when it is deleted",
    );
    figures.note("reopened: from the restart of etcd until it counts as many watchers again");
    Ok(figures)
}

/// Deletes a hundred records at once, in turns with the raw client.
async fn deleted(figures: &mut Figures, rounds: usize) -> Result<()> {
    let server = EtcdServer::start().await?;
    let store = Arc::new(server.registry().await?);
    let services = ["user.rpc".parse()?];
    let _registrations = start_all(&store, instances(&services, LOST)?, TTL).await?;
    let mut operator = server.client().await?;
    let _raw = start_raw(&server, &format!("{RAW}/user.rpc/")).await?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=2 * rounds {
        let arm = round % 2;
        let samples = delete_and_wait(&mut operator, &format!("{}/", [OURS, RAW][arm])).await?;
        if round > 0 {
            times[arm].extend(samples);
        }
    }
    let p99 = |times: &Vec<f64>| {
        let late = Latencies::of(times.iter().map(|ms| ms / 1e3))?;
        anyhow::Ok(late.percentile(99.0).unwrap_or(f64::NAN) * 1e3)
    };
    let (ours, raw) = (p99(&times[0])?, p99(&times[1])?);
    figures.add(Figure::median(format!("{LOST} deleted: back, ours"), &times[0], "ms"));
    figures.add(Figure::median(format!("{LOST} deleted: back, raw"), &times[1], "ms"));
    figures.add(Figure::timed(format!("{LOST} deleted: p99, ours"), ours, "ms").at_most(50.0));
    figures.add(Figure::timed(format!("{LOST} deleted: p99, raw"), raw, "ms"));
    figures.add(Figure::timed("p99: ours / raw", ours / raw, "x"));
    figures.note(&server.description);
    Ok(())
}

/// Returns the times in milliseconds until the records under `prefix` are back.
async fn delete_and_wait(operator: &mut Client, prefix: &str) -> Result<Vec<f64>> {
    sleep(TTL.mul_f64(0.6)).await; // each arm's turn comes once in 1.2 ttls
    let options = WatchOptions::new().with_prefix();
    let mut events = operator.watch(prefix, Some(options)).await?;
    let options = DeleteOptions::new().with_prefix();
    let deleted = operator.delete(prefix, Some(options)).await?.deleted();
    let (start, mut times) = (Instant::now(), Vec::new());
    let all_back = async {
        let mut back = BTreeSet::new();
        while back.len() < usize::try_from(deleted)? {
            let response = events.message().await?.context("the watch ended")?;
            let took = start.elapsed().as_secs_f64() * 1e3;
            for event in response.events() {
                let key = event.kv().map(|kv| kv.key().to_vec()).unwrap_or_default();
                if event.event_type() == EventType::Put && back.insert(key) {
                    times.push(took);
                }
            }
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs(30), all_back).await??;
    Ok(times)
}

/// Keeps a hundred keys with the raw client. Dropping the handle ends it.
async fn start_raw(server: &EtcdServer, prefix: &str) -> Result<JoinSet<Result<()>>> {
    let mut client = server.client().await?;
    let lease = client.lease_grant(600, None).await?.id();
    let put = move |mut client: Client, key: Vec<u8>| async move {
        client.put(key, vec![b'x'; 199], Some(PutOptions::new().with_lease(lease))).await?;
        anyhow::Ok(())
    };
    let keys: Vec<String> = (0..LOST).map(|n| format!("{prefix}node-{n}")).collect();
    try_join_all(keys.iter().map(|key| put(client.clone(), key.clone().into_bytes()))).await?;
    let mut events = client.watch(keys[0].as_str(), None).await?;
    for key in &keys[1..] {
        events.watch(key.as_str(), None).await?;
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let response = events.message().await?.context("the watch ended")?;
            for event in response.events() {
                let (kind, kv) = (event.event_type(), event.kv().context("a key")?);
                if kind == EventType::Delete {
                    tokio::spawn(put(client.clone(), kv.key().to_vec()));
                }
            }
        }
    });
    Ok(tasks)
}

/// Keeps `many` registrations of so many services, and restarts etcd.
async fn scale(figures: &mut Figures, services: usize, many: usize) -> Result<()> {
    let mut server = EtcdServer::start().await?;
    let store = Arc::new(server.registry().await?);
    let names: Vec<ServiceName> =
        (0..services).map(|n| format!("service-{n}").parse()).collect::<Result<_, _>>()?;
    let (heap, begin) = (Heap::now(), Instant::now());
    let registrations =
        start_all(&store, instances(&names, many)?, Duration::from_secs(600)).await?;
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
    let active = registrations.iter().filter(|one| one.status().is_active()).count();
    let name = |what: &str| format!("{services} services of {}: {what}", many / services);
    figures.add(Figure::timed(name("registered in"), took, "s"));
    figures.add(Figure::counted(name("watchers"), expected, ""));
    figures.add_heap(Figure::counted(name("each registration holds"), bytes, "B"));
    figures.add(Figure::timed(name("etcd up again"), up, "s"));
    figures.add(Figure::timed(name("watches reopened"), reopened, "s"));
    figures.add(Figure::counted(name("active"), as_f64(active), "").exactly(as_f64(many)));
    Ok(())
}

/// So many instances, spread over `services`.
fn instances(services: &[ServiceName], many: usize) -> Result<Vec<Instance>> {
    let each = (0..many).map(|n| {
        let service = services[n % services.len()].clone();
        Ok(Instance::new(service, format!("node-{n}").parse()?, "10.0.0.1:8080".parse()?))
    });
    each.collect()
}
