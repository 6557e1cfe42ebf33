//! Compares calls with the raw client: the same requests to etcd, except for updates, and comparable writes to Redis.

use crate::arms::{Ours, RawEtcd};
use crate::harness::etcd_server::REGISTRY_PREFIX;
use crate::harness::stores::connect;
use crate::harness::{
    EtcdServer, Figure, Figures, RedisServer, Server, Store, as_f64, compare_anew, plan, prepare,
};
use crate::workloads::{Contender, Runner, Workload};
use anyhow::{Context, Result};
use registry_testbed::proxy::{Fault, Proxy};
use std::time::Duration;

/// A workload, and the target of the ratio of ours to raw.
type Row = (Workload, f64);

const ON_ETCD: [Row; 5] = [
    (Workload::Register, 1.05),
    (Workload::Update, 1.10),
    (Workload::KeepAlive, 1.05),
    (Workload::Load(100), 1.05),
    (Workload::RegisterToWatch, 1.05),
];

const ON_REDIS: [Row; 6] = [
    (Workload::Register, 1.15),
    (Workload::KeepAlive, 1.10),
    (Workload::Update, 1.15),
    (Workload::Load(100), 1.10),
    (Workload::RegisterToWatch, 1.15),
    (Workload::Resume(1_000), 1.5),
];

pub(super) async fn etcd(quick: bool) -> Result<Figures> {
    let server = Server::start(Store::Etcd).await?;
    let mut figures = compare_all(&server, &ON_ETCD, quick).await?;
    let Server::Etcd(server) = server else { return Ok(figures) };
    // Bytes are compared only where both make the same requests. Raw updates and deregisters with fewer.
    for workload in [Workload::Register, Workload::KeepAlive, Workload::Load(100)] {
        add_bytes(&mut figures, &server, workload, if quick { 20 } else { 500 }).await?;
    }
    figures.note("raw makes the same requests to one member, without deadlines or checks of responses, except that it updates with a put, and the registry with a transaction and a concurrent renewal");
    figures.note("bytes in both directions, as a proxy counts them");
    Ok(figures)
}

pub(super) async fn redis(quick: bool) -> Result<Figures> {
    let server = Server::start(Store::Redis).await?;
    let mut figures = compare_all(&server, &ON_REDIS, quick).await?;
    let Server::Redis(redis) = &server else { return Ok(figures) };
    for (workload, _) in &ON_REDIS[..2] {
        let [raw_count, raw_micros] = scripts(redis, &redis.raw().await?, *workload).await?;
        let [count, micros] = scripts(redis, &*server.ours().await?, *workload).await?;
        let name = format!("{workload}: scripts (raw {raw_count})");
        figures.add(Figure::counted(name, count, "").exactly(raw_count));
        let name = format!("{workload}: time of its scripts on the server (raw {raw_micros:.1})");
        figures.add(Figure::timed(name, micros, "us"));
    }
    figures
        .note("raw makes comparable writes with one script, checks nothing, and has no deadlines");
    Ok(figures)
}

/// Compares the medians of alternating calls, with new connections in each round.
async fn compare_all(server: &Server, rows: &[Row], quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    for (workload, limit) in rows {
        let raw = async || server.raw().await?.context("this store has no raw client");
        let runners = async || {
            let (ours, raw, control) = (server.ours().await?, raw().await?, raw().await?);
            prepare([&*ours, &*raw, &*control], *workload).await
        };
        let compared = compare_anew(plan(quick), runners).await?;
        figures.add_comparison(workload, ["ours", "raw"], &compared, |x| x.at_most(*limit));
    }
    figures.note(server.description());
    figures.note("p50 of alternating calls, with new connections in each round");
    Ok(figures)
}

/// Adds the bytes of one call. The target is at most 2 % more than the raw client.
async fn add_bytes(
    figures: &mut Figures,
    server: &EtcdServer,
    workload: Workload,
    calls: u32,
) -> Result<()> {
    let counted = if workload == Workload::Register { Workload::RegisterMore } else { workload };
    let address = server.address.parse()?;
    let proxies = [Proxy::start(address).await?, Proxy::start(address).await?];
    let [ours, raw] = proxies.each_ref().map(Proxy::address);
    let ours = Ours::new(connect(&format!("etcd://{ours}/{REGISTRY_PREFIX}")).await?);
    let ours = bytes(&ours, counted, calls, &proxies[0]).await?;
    let raw = RawEtcd::connect(&format!("http://{raw}")).await?;
    let raw = bytes(&raw, counted, calls, &proxies[1]).await?;
    // Not exactly as many, because lease ids are random, and their varints differ in length.
    let figure = Figure::counted(format!("{workload}: bytes (raw {raw:.1})"), ours, "");
    figures.add(figure.at_most(raw * 1.02));
    Ok(())
}

/// Returns the bytes of one call in both directions, with its cleanup if the workload cleans up after each call.
async fn bytes(arm: &dyn Contender, workload: Workload, calls: u32, proxy: &Proxy) -> Result<f64> {
    /// The number of calls before the counted ones. After them, repeated headers are compressed.
    const WARM_UP: u64 = 20;
    let mut runner = Runner::prepare("counted", arm, workload).await?;
    runner.time(WARM_UP).await?;
    // The proxy counts the bytes that it delays.
    proxy.inject(Fault::Delay { each: Duration::ZERO, jitter: Duration::ZERO });
    let before = proxy.hits().delayed_bytes;
    for _ in 0..calls {
        runner.time(1).await?;
    }
    let bytes = as_f64(proxy.hits().delayed_bytes - before);
    proxy.heal();
    runner.finish().await?;
    Ok(bytes / f64::from(calls))
}

/// Returns the number of scripts of one call and its cleanup, and their microseconds on the server.
async fn scripts(redis: &RedisServer, arm: &dyn Contender, workload: Workload) -> Result<[f64; 2]> {
    const CALLS: u32 = 1000;
    let mut runner = Runner::prepare("counted", arm, workload).await?;
    let before = redis.counts().await?.scripts()?;
    runner.time(CALLS.into()).await?;
    let after = redis.counts().await?.scripts()?;
    runner.finish().await?;
    Ok([0, 1].map(|n| (after[n] - before[n]) / f64::from(CALLS)))
}
