//! One call at a time: the registry beside the raw client, whose scripts make the same writes.

use crate::server::Server;
use crate::twin::Twin;
use anyhow::Result;
use comparison::arms::Arm;
use comparison::arms::ours::Ours;
use comparison::calls;
use comparison::figures::{Figure, Report};
use comparison::sections::one_thread;
use comparison::workloads::{Runner, Workload};

pub(crate) fn report(quick: bool) -> Result<Report> {
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let mut report = Report::default();
        let ours = async || Ok(Ours::new(server.registry().await?));
        let raw = async || Twin::connect(&server).await;
        let workloads = [
            ("register", Workload::Register, 1.10),
            ("keep_alive", Workload::KeepAlive, 1.10),
            ("load of 100", Workload::Load(100), 1.10),
            ("register to watch", Workload::RegisterToWatch, 1.10),
        ];
        for (name, workload, limit) in workloads {
            let figures = calls::compare(workload, calls::plan(quick), &ours, &raw).await?;
            calls::add_times(&mut report, name, &figures, limit, 1.02);
        }
        for (name, workload) in [("register", Workload::Register), ("keep_alive", Workload::KeepAlive)] {
            let raw = scripts(&server, &raw().await?, workload).await?;
            let ours = scripts(&server, &ours().await?, workload).await?;
            let figure =
                Figure::counted(format!("{name}: scripts (raw {})", raw.calls), ours.calls, "");
            report.add(figure.exactly(raw.calls));
            let name = format!("{name}: the server's time (raw {:.1})", raw.time);
            report.add(Figure::timed(name, ours.time, "us"));
        }
        report.note(&server.description);
        report.note("p50, in turns at every call, each round over new connections; raw makes the same writes by one script, reads and checks nothing, and has no deadlines");
        Ok(report)
    })
}

/// The scripts of one call, and of its undoing where that is no call of its own.
struct Scripts {
    calls: f64,
    /// Microseconds.
    time: f64,
}

async fn scripts<A: Arm>(server: &Server, arm: &A, workload: Workload) -> Result<Scripts> {
    const CALLS: u32 = 1000;
    let mut runner = Runner::prepare("counted", arm, workload).await?;
    let before = server.counts().await?;
    runner.time(CALLS.into()).await?;
    let after = server.counts().await?;
    runner.finish().await?;
    Ok(Scripts {
        calls: (after.scripts()? - before.scripts()?) / f64::from(CALLS),
        time: (after.script_time()? - before.script_time()?) / f64::from(CALLS),
    })
}
