//! One call at a time on Redis: the registry beside the raw client, whose scripts make the same writes.

use crate::arms::{Ours, RedisTwin};
use crate::harness::{Figure, Figures, RedisServer, compare_anew, plan, prepare};
use crate::workloads::{Contender, Runner, Workload};
use anyhow::Result;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let server = RedisServer::start().await?;
    let mut figures = Figures::default();
    let ours = async || anyhow::Ok(Ours::new(server.registry().await?));
    let raw = async || RedisTwin::connect(&server).await;
    let workloads = [
        ("register", Workload::Register, 1.15),
        ("keep_alive", Workload::KeepAlive, 1.10),
        ("update", Workload::Update, 1.15),
        ("load of 100", Workload::Load(100), 1.10),
        ("register to watch", Workload::RegisterToWatch, 1.15),
        ("resume of 1,000", Workload::Resume(1_000), 1.5),
    ];
    for (name, workload, limit) in workloads {
        let runners = async || {
            let (ours, raw, again) = (ours().await?, raw().await?, raw().await?);
            prepare([&ours, &raw, &again], workload).await
        };
        let compared = compare_anew(plan(quick), runners).await?;
        let target = |figure: Figure| figure.at_most(limit).aim(1.02);
        figures.add_comparison([name, "ours", "raw"], &compared, ("us", 1e6), target);
    }
    for (name, workload, _) in &workloads[..2] {
        let raw = scripts(&server, &raw().await?, *workload).await?;
        let ours = scripts(&server, &ours().await?, *workload).await?;
        let figure = Figure::counted(format!("{name}: scripts (raw {})", raw.0), ours.0, "");
        figures.add(figure.exactly(raw.0));
        let name = format!("{name}: the server's time (raw {:.1})", raw.1);
        figures.add(Figure::timed(name, ours.1, "us"));
    }
    figures.note(&server.description);
    figures.note("p50, in turns at every call, each round over new connections; raw makes the same writes by one script, reads and checks nothing, and has no deadlines");
    Ok(figures)
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
