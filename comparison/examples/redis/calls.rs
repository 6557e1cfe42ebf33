//! One call at a time: the registry beside the raw client, whose scripts make the same writes.

use crate::server::Server;
use crate::twin::Twin;
use anyhow::Result;
use comparison::arms::Arm;
use comparison::arms::ours::Ours;
use comparison::calls;
use comparison::figures::{Figure, Report};
use comparison::sections::one_thread;
use comparison::work::{Lane, Work};

pub(crate) fn report(quick: bool) -> Result<Report> {
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let mut report = Report::default();
        let ours = async || Ok(Ours::new(server.registry().await?));
        let raw = async || Twin::connect(&server).await;
        let works = [
            ("register", Work::Register, 1.10),
            ("keep_alive", Work::KeepAlive, 1.10),
            ("load of 100", Work::Load(100), 1.10),
            ("register to watch", Work::RegisterToWatch, 1.10),
        ];
        for (name, work, limit) in works {
            let figures = calls::compare(work, calls::plan(quick), &ours, &raw).await?;
            calls::add_times(&mut report, name, &figures, limit, 1.02);
        }
        for (name, work) in [("register", Work::Register), ("keep_alive", Work::KeepAlive)] {
            let scripts = [scripts(&server, &raw().await?, work).await?, scripts(&server, &ours().await?, work).await?];
            let name = format!("{name}: scripts (raw {})", scripts[0]);
            report.add(Figure::counted(name, scripts[1], "").exactly(scripts[0]));
        }
        report.note(&server.told);
        report.note("p50, in turns at every call, each round over new connections; raw makes the same writes by one script, reads and checks nothing, and has no deadlines");
        Ok(report)
    })
}

/// How many scripts one call is, its undoing apart.
async fn scripts<A: Arm>(server: &Server, arm: &A, work: Work) -> Result<f64> {
    const CALLS: u32 = 100;
    let mut lane = Lane::prepare("counted", arm, work).await?;
    let before = server.counts().await?.scripts()?;
    lane.time(CALLS.into()).await?;
    let after = server.counts().await?.scripts()?;
    lane.finish().await?;
    Ok((after - before) / f64::from(CALLS))
}
