//! One call at a time: the registry beside the raw client, which makes the same requests on etcd, and the same writes
//! on Redis.

use crate::arms::{Ours, RawEtcd};
use crate::harness::{
    EtcdServer, Figure, Figures, RedisServer, Server, Store, WireCost, compare_anew, etcd_server,
    plan, prepare,
};
use crate::workloads::{Contender, Runner, Workload};
use anyhow::{Context, Result};
use registry_testbed::proxy::Proxy;

/// A workload, and what ours may take as a multiple of raw.
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
    // An update is a put, for raw; ours makes a transaction and a renewal at once.
    for (workload, _) in ON_ETCD.iter().filter(|(workload, _)| *workload != Workload::Update) {
        add_wire_cost(&mut figures, &server, *workload, if quick { 20 } else { 500 }).await?;
    }
    figures.note("raw makes the same requests, without deadlines, checks of its answers, or other members; its update is a put, where ours is a transaction with a renewal beside it");
    figures.note("round trips: over a link that takes 25 ms each way; bytes: both ways, as a proxy counts them; requests: by the server");
    Ok(figures)
}

pub(super) async fn redis(quick: bool) -> Result<Figures> {
    let server = Server::start(Store::Redis).await?;
    let mut figures = compared(&server, &ON_REDIS, quick).await?;
    let Server::Redis(server) = server else { return Ok(figures) };
    for (workload, _) in &ON_REDIS[..2] {
        let raw = scripts(&server, &server.raw().await?, *workload).await?;
        let ours = scripts(&server, &Ours::new(server.registry().await?), *workload).await?;
        let figure = Figure::counted(format!("{workload}: scripts (raw {})", raw.0), ours.0, "");
        figures.add(figure.exactly(raw.0));
        let name = format!("{workload}: the server's time (raw {:.1})", raw.1);
        figures.add(Figure::timed(name, ours.1, "us"));
    }
    figures.note(
        "raw makes the same writes by one script, reads and checks nothing, and has no deadlines",
    );
    Ok(figures)
}

/// Compares the medians, in turns at every call, each round over new connections.
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
    figures.note("p50, in turns at every call, each round over new connections");
    Ok(figures)
}

async fn add_wire_cost(
    figures: &mut Figures,
    server: &EtcdServer,
    workload: Workload,
    calls: u32,
) -> Result<()> {
    let counted = if workload == Workload::Register { Workload::RegisterMore } else { workload };
    let proxies = [
        Proxy::start(server.address.parse()?).await?,
        Proxy::start(server.address.parse()?).await?,
    ];
    let [ours, raw] = proxies.each_ref().map(|proxy| proxy.address().to_string());
    let ours = Ours::new(etcd_server::registry(&ours).await?);
    let raw = RawEtcd::connect(&format!("http://{raw}")).await?;
    let ours = WireCost::of(&ours, counted, calls, (&proxies[0], server)).await?;
    let raw = WireCost::of(&raw, counted, calls, (&proxies[1], server)).await?;
    // With each of these a load and a deregistration are counted, which the registry does in more steps.
    let with_bytes = workload != Workload::RegisterToWatch;
    ours.add(figures, &workload.to_string(), &raw, with_bytes);
    Ok(())
}

/// The scripts of one call, and of what clears it away, and the microseconds that they take.
async fn scripts(
    server: &RedisServer,
    arm: &dyn Contender,
    workload: Workload,
) -> Result<(f64, f64)> {
    const CALLS: u32 = 1000;
    let mut runner = Runner::prepare("counted", arm, workload).await?;
    let before = server.counts().await?;
    runner.time(CALLS.into()).await?;
    let after = server.counts().await?;
    runner.finish().await?;
    let each = |sum: f64| sum / f64::from(CALLS);
    Ok((
        each(after.scripts()? - before.scripts()?),
        each(after.script_time()? - before.script_time()?),
    ))
}
