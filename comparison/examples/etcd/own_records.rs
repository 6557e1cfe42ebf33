//! Registrations that watch their own records: how soon a deleted record is back, and what the watches cost.

use crate::server::{Server, registry};
use anyhow::{Context, Result};
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, resident};
use comparison::sections::one_thread;
use etcd_client::{Client, DeleteOptions, EventType, PutOptions, WatchOptions};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{Instance, ServiceName};
use registry_engine::{Registration, RegistrationOptions};
use registry_etcd::EtcdRegistry;
use registry_testbed::servers::Etcd;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How many records are deleted together.
const LOST: usize = 100;

/// The ttl of those. A record that is lost again within a ttl waits for the backoff.
const TTL: Duration = Duration::from_secs(2);

/// How many registrations start at a time.
const AT_ONCE: usize = 256;

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (rounds, many) = if quick { (3, 1_000) } else { (21, 100_000) };
    let mut report = Report::default();
    one_thread()?.block_on(deleted(&mut report, rounds))?;
    for services in [1, many / 100, many] {
        one_thread()?.block_on(scale(&mut report, services, many))?;
    }
    report.note("back: from the answer to the deletion until a watch of all keys has seen each record again");
    report.note(
        "raw: a watcher for each key on one stream, which puts the key again when it is deleted",
    );
    report.note("reopened: from the restart of etcd until it counts as many watchers again");
    Ok(report)
}

/// Deletes a hundred records at once, in turns with the raw twin.
async fn deleted(report: &mut Report, rounds: usize) -> Result<()> {
    let server = Server::start().await?;
    let store = Arc::new(server.registry().await?);
    let service: ServiceName = "user.rpc".parse()?;
    let _registrations = start(&store, &[service], LOST, TTL).await?;
    let mut operator = server.client().await?;
    let raw = "figures-raw_/user.rpc/";
    let _twins = start_twins(&server, raw).await?;
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=2 * rounds {
        let arm = round % 2;
        let prefix = [crate::server::OURS, "figures-raw_"][arm];
        let samples = delete_and_wait(&mut operator, &format!("{prefix}/")).await?;
        if round > 0 {
            times[arm].extend(samples);
        }
    }
    let [ours, twin] = times;
    let (p99, raw_p99) = (percentile(&ours, 99), percentile(&twin, 99));
    report.add(Figure::median(format!("{LOST} deleted: back, ours"), &ours, "ms"));
    report.add(Figure::median(format!("{LOST} deleted: back, raw"), &twin, "ms"));
    report.add(Figure::timed(format!("{LOST} deleted: p99, ours"), p99, "ms").at_most(50.0));
    report.add(Figure::timed(format!("{LOST} deleted: p99, raw"), raw_p99, "ms"));
    report.add(Figure::timed("p99: ours / raw", p99 / raw_p99, "x"));
    report.note(&server.description);
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
async fn start_twins(server: &Server, prefix: &str) -> Result<tokio::task::JoinSet<Result<()>>> {
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
    let mut tasks = tokio::task::JoinSet::new();
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
async fn scale(report: &mut Report, services: usize, many: usize) -> Result<()> {
    let mut etcd = Etcd::start().await?;
    let address = etcd.endpoint().trim_start_matches("http://").to_owned();
    let store = Arc::new(registry(&address).await?);
    let names: Vec<ServiceName> =
        (0..services).map(|n| format!("service-{n}").parse()).collect::<Result<_, _>>()?;
    let (before, begin) = (resident(), Instant::now());
    let registrations = start(&store, &names, many, Duration::from_secs(600)).await?;
    let took = begin.elapsed().as_secs_f64();
    let expected = as_f64((services * (many / services).min(8)) as u64)
        + if many / services > 8 { as_f64(services as u64) } else { 0.0 };
    wait_for_watchers(&address, expected).await?;
    let bytes = (resident() - before) / as_f64(many as u64);
    etcd.process()?.kill()?;
    let restart = Instant::now();
    etcd.process()?.restart().await?;
    let up = restart.elapsed().as_secs_f64();
    wait_for_watchers(&address, expected).await?;
    let reopened = restart.elapsed().as_secs_f64();
    let active = registrations.iter().filter(|one| one.status().is_active()).count();
    let name = |what: &str| format!("{services} services of {}: {what}", many / services);
    report.add(Figure::timed(name("registered in"), took, "s"));
    report.add(Figure::counted(name("watchers"), expected, ""));
    report.add(Figure::timed(name("memory, each registration"), bytes, "B"));
    report.add(Figure::timed(name("etcd up again"), up, "s"));
    report.add(Figure::timed(name("watches reopened"), reopened, "s"));
    report.add(
        Figure::counted(name("active"), as_f64(active as u64), "").exactly(as_f64(many as u64)),
    );
    Ok(())
}

async fn wait_for_watchers(address: &str, expected: f64) -> Result<()> {
    let all = async {
        loop {
            let server = crate::server::metrics(address).await;
            if server.and_then(|metrics| metrics.watchers()).is_ok_and(|open| open >= expected) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(300), all).await.context("the watches are not open")
}

async fn start(
    store: &Arc<EtcdRegistry>,
    services: &[ServiceName],
    many: usize,
    ttl: Duration,
) -> Result<Vec<Registration>> {
    let options = RegistrationOptions { ttl: Some(ttl), ..RegistrationOptions::default() };
    let starts = (0..many).map(|n| {
        let (store, options) = (store.clone(), options.clone());
        let service = services[n % services.len()].clone();
        async move {
            let (id, address) = (format!("node-{n}").parse()?, "10.0.0.1:8080".parse()?);
            let instance = Instance::new(service, id, address);
            anyhow::Ok(Registration::start(store, instance, options).await?)
        }
    });
    stream::iter(starts).buffer_unordered(AT_ONCE).try_collect().await
}

fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or(f64::NAN)
}
