//! Ten instances under calls at fixed times, while one is killed, one drained and one slowed.

use crate::arms::Arm;
use crate::fleet::Fleet;
use crate::schedule::{Call, Fault, Run, Schedule};
use anyhow::{Result, ensure};
use comparison::figures::{Figure, Report};
use comparison::percentiles::Latencies;
use comparison::sections::one_thread;
use std::fmt::Write;
use std::time::Duration;

const INSTANCES: usize = 10;
const TTL: Duration = Duration::from_secs(4);
/// How long a call takes, and how long at the one that is slowed.
const TAKES: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(200);

const ARMS: [Arm; 3] = [Arm::Ours, Arm::Balance, Arm::RoundRobin];

pub(crate) fn report(quick: bool) -> Result<Report> {
    let schedule = schedule(if quick { 1 } else { 5 });
    let mut runs = Vec::new();
    for arm in ARMS {
        // A runtime for each: nothing is left of the one before.
        let run = one_thread()?.block_on(async {
            let mut fleet = Fleet::start(INSTANCES, TAKES, TTL).await?;
            let caller = arm.caller(fleet.view().await?)?;
            for _ in 0..10 * INSTANCES {
                caller.call().await?;
            }
            schedule.run(&mut fleet, &caller).await
        })?;
        ensure!(run.calls.len() > 100, "hardly a call was made");
        runs.push(run);
    }
    let mut report = Report::default();
    for (arm, run) in ARMS.iter().zip(&runs) {
        add(&mut report, *arm, &schedule, run)?;
    }
    report.note(format!(
        "{} calls a second, each {} ms, to {INSTANCES} instances; latencies from when a call was due; an instance without renewal is unlisted after {} s",
        schedule.per_second,
        TAKES.as_millis(),
        TTL.as_secs()
    ));
    report.note(timeline(&schedule, &runs)?);
    Ok(report)
}

/// In steps of so many seconds.
fn schedule(step: u32) -> Schedule {
    let at = |steps| Duration::from_secs(u64::from(step * steps));
    Schedule {
        per_second: 500,
        length: at(7),
        faults: vec![
            (at(1), Fault::Kill(0)),
            (at(2), Fault::Drain(1)),
            (at(3), Fault::Leave(1)),
            (at(4), Fault::Slow(2, SLOW)),
            (at(6), Fault::Slow(2, TAKES)),
        ],
    }
}

fn add(report: &mut Report, arm: Arm, schedule: &Schedule, run: &Run) -> Result<()> {
    let name = arm.name();
    let [killed, drained, left, slowed, recovered] = [0, 1, 2, 3, 4].map(|n| schedule.faults[n].0);
    let end = schedule.length;
    let parts = [
        ("before", Duration::ZERO, killed),
        ("after one is killed", killed, drained),
        ("while one drains", drained, left),
        ("after it left", left, slowed),
        ("while one is slow", slowed, recovered),
        ("after it recovered", recovered, end),
    ];
    for (what, from, to) in parts {
        #[expect(clippy::cast_precision_loss, reason = "there are no 2^53 calls")]
        let failed = failures(&run.calls, from, to) as f64;
        let figure = Figure::counted(format!("{name}: failed calls {what}"), failed, "");
        #[expect(clippy::cast_precision_loss, reason = "nor so many")]
        let limit = if from == killed { run.under_way as f64 } else { 0.0 };
        let ours = matches!(arm, Arm::Ours);
        report.add(if ours { figure.at_most(limit) } else { figure });
        let p99 = p99(&run.calls, from, to)? * 1e3;
        report.add(Figure::timed(format!("{name}: p99 {what}"), p99, "ms"));
    }
    report.note(format!(
        "{name}: {} calls were under way at the one that was killed, {} began at the one that drained after it had said so",
        run.under_way, run.after_drain
    ));
    Ok(())
}

fn failures(calls: &[Call], from: Duration, to: Duration) -> usize {
    within(calls, from, to).filter(|call| call.failed).count()
}

fn p99(calls: &[Call], from: Duration, to: Duration) -> Result<f64> {
    let took = within(calls, from, to).map(|call| call.took.as_secs_f64());
    Ok(Latencies::of(took)?.percentile(99.0).unwrap_or(f64::NAN))
}

fn within(calls: &[Call], from: Duration, to: Duration) -> impl Iterator<Item = &Call> {
    calls.iter().filter(move |call| (from..to).contains(&call.due))
}

/// Second by second: the 99th percentile, and how many failed.
fn timeline(schedule: &Schedule, runs: &[Run]) -> Result<String> {
    let mut table = String::from("p99 in ms and failed calls, second by second\n");
    write!(table, "    {:>3}", "s")?;
    for arm in ARMS {
        write!(table, "  {:>16}", arm.name())?;
    }
    for second in 0..schedule.length.as_secs() {
        let (from, to) = (Duration::from_secs(second), Duration::from_secs(second + 1));
        write!(table, "\n    {second:>3}")?;
        for run in runs {
            let failed = failures(&run.calls, from, to);
            let failed = if failed == 0 { String::new() } else { format!("{failed} failed") };
            write!(table, "  {:>6.1} {failed:>9}", p99(&run.calls, from, to)? * 1e3)?;
        }
        for (_, fault) in schedule.faults.iter().filter(|(at, _)| (from..to).contains(at)) {
            write!(table, "  {}", describe(*fault))?;
        }
    }
    Ok(table)
}

fn describe(fault: Fault) -> String {
    match fault {
        Fault::Kill(n) => format!("{n} is killed"),
        Fault::Drain(n) => format!("{n} drains"),
        Fault::Leave(n) => format!("{n} leaves"),
        Fault::Slow(n, takes) => format!("{n} takes {} ms", takes.as_millis()),
    }
}
