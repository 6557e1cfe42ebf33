//! One call at a time, beside the raw client, which makes the same requests to etcd and the same writes to Redis.

use crate::arms::{Ours, RawEtcd};
use crate::harness::etcd_server::OURS;
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
    let mut figures = compared(&server, &ON_ETCD, quick).await?;
    let Server::Etcd(server) = server else { return Ok(figures) };
    // Not an update or a watch: raw updates with a put, and deregisters in fewer steps.
    for workload in [Workload::Register, Workload::KeepAlive, Workload::Load(100)] {
        add_bytes(&mut figures, &server, workload, if quick { 20 } else { 500 }).await?;
    }
    figures.note("raw makes the same requests to one member, without deadlines or checks of responses; it updates with a put, and ours with a transaction beside a renewal");
    figures.note("bytes in both directions, as a proxy counts them");
    Ok(figures)
}

pub(super) async fn redis(quick: bool) -> Result<Figures> {
    let server = Server::start(Store::Redis).await?;
    let mut figures = compared(&server, &ON_REDIS, quick).await?;
    let Server::Redis(server) = server else { return Ok(figures) };
    for (workload, _) in &ON_REDIS[..2] {
        let raw = scripts(&server, &server.raw().await?, *workload).await?;
        let ours = scripts(&server, &Ours::new(server.registry().await?), *workload).await?;
        let figure = Figure::counted(format!("{workload}: scripts (raw {})", raw[0]), ours[0], "");
        figures.add(figure.exactly(raw[0]));
        let name = format!("{workload}: the server's time (raw {:.1})", raw[1]);
        figures.add(Figure::timed(name, ours[1], "us"));
    }
    figures.note(
        "raw makes the same writes with one script, reads and checks nothing, and has no deadlines",
    );
    Ok(figures)
}

/// Compares the medians of alternating calls, with new connections in each round.
async fn compared(server: &Server, rows: &[Row], quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    for (workload, limit) in rows {
        let raw = async || server.raw().await?.context("this store has no raw client");
        let runners = async || {
            let (ours, raw, again) = (server.ours().await?, raw().await?, raw().await?);
            prepare([&*ours, &*raw, &*again], *workload).await
        };
        let compared = compare_anew(plan(quick), runners).await?;
        let target = |figure: Figure| figure.at_most(*limit);
        figures.add_comparison(workload, ["ours", "raw"], &compared, target);
    }
    figures.note(server.description());
    figures.note("p50 of alternating calls, with new connections in each round");
    Ok(figures)
}

/// Adds the bytes of one call. The target is the bytes of the raw client.
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
    let ours = Ours::from(connect(&format!("etcd://{ours}/{OURS}")).await?);
    let ours = bytes(&ours, counted, calls, &proxies[0]).await?;
    let raw = RawEtcd::connect(&format!("http://{raw}")).await?;
    let raw = bytes(&raw, counted, calls, &proxies[1]).await?;
    // Lease ids are random, and their varints differ in length.
    let figure = Figure::counted(format!("{workload}: bytes (raw {raw:.1})"), ours, "");
    figures.add(figure.at_most(raw * 1.02));
    Ok(())
}

/// Returns the bytes of one call in both directions, including its cleanup unless that happens at the end.
async fn bytes(arm: &dyn Contender, workload: Workload, calls: u32, proxy: &Proxy) -> Result<f64> {
    /// The calls before those that are counted. By then repeated headers are compressed.
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

/// Returns the scripts of one call and its cleanup, and their time in microseconds.
async fn scripts(
    server: &RedisServer,
    arm: &dyn Contender,
    workload: Workload,
) -> Result<[f64; 2]> {
    const CALLS: u32 = 1000;
    let mut runner = Runner::prepare("counted", arm, workload).await?;
    let before = server.counts().await?.scripts()?;
    runner.time(CALLS.into()).await?;
    let after = server.counts().await?.scripts()?;
    runner.finish().await?;
    Ok([0, 1].map(|n| (after[n] - before[n]) / f64::from(CALLS)))
}
