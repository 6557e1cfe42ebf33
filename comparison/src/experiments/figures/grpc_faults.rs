//! Calls at fixed times to ten instances, of which one is killed, one drained and withdrawn, and one slowed.

use crate::arms::{Caller, ChannelArm};
use crate::harness::{Figure, Figures, Fleet, Latencies, as_f64, one_thread};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};

const INSTANCES: usize = 10;
const PER_SECOND: u32 = 500;
const TTL: Duration = Duration::from_secs(4);
/// The time that a call takes: usually, and on the slow instance.
const CALL_TIME: Duration = Duration::from_millis(2);
const SLOW_CALL_TIME: Duration = Duration::from_millis(200);

const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const ARMS: [ChannelArm; 2] = [ChannelArm::Ours, ChannelArm::Balance];

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(usize),
    Drain(usize),
    Withdraw(usize),
    Slow(usize, Duration),
}

#[derive(Debug)]
struct Schedule {
    length: Duration,
    faults: Vec<(Duration, Fault)>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    /// The due time since the start.
    due: Duration,
    /// The time from when it was due until it ended.
    took: Duration,
    failed: bool,
}

#[derive(Debug)]
struct Run {
    calls: Vec<Call>,
    /// Calls in flight on the killed instance.
    in_flight: u64,
    /// Calls that reached the draining instance after it was registered as draining.
    after_drain: u64,
}

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let schedule = schedule(if quick { 1 } else { 5 });
    let mut runs = Vec::new();
    for arm in ARMS {
        // A new runtime ends all tasks of the previous run.
        let run = one_thread()?.block_on(async {
            let mut fleet = Fleet::start(INSTANCES, CALL_TIME, TTL).await?;
            let caller = arm.caller(fleet.view().await?)?;
            for _ in 0..10 * INSTANCES {
                caller.call().await?;
            }
            schedule.run(&mut fleet, &caller).await
        })?;
        ensure!(run.calls.len() > 100, "too few calls were made");
        runs.push(run);
    }
    let mut figures = Figures::default();
    for (arm, run) in ARMS.iter().zip(&runs) {
        add(&mut figures, *arm, &schedule, run)?;
    }
    figures.note(format!(
        "{PER_SECOND} calls a second, each {} ms, to {INSTANCES} instances; latencies are from when a call is due; the lease of the killed instance expires after {} s",
        CALL_TIME.as_millis(),
        TTL.as_secs()
    ));
    Ok(figures)
}

/// Returns the schedule, whose steps have this many seconds.
fn schedule(step: u32) -> Schedule {
    let time = |steps| Duration::from_secs(u64::from(step * steps));
    Schedule {
        length: time(7),
        faults: vec![
            (time(1), Fault::Kill(0)),
            (time(2), Fault::Drain(1)),
            (time(3), Fault::Withdraw(1)),
            (time(4), Fault::Slow(2, SLOW_CALL_TIME)),
            (time(6), Fault::Slow(2, CALL_TIME)),
        ],
    }
}

fn add(figures: &mut Figures, arm: ChannelArm, schedule: &Schedule, run: &Run) -> Result<()> {
    let name = arm.name();
    let [killed, drained, withdrawn, slowed, recovered] =
        [0, 1, 2, 3, 4].map(|n| schedule.faults[n].0);
    let parts = [
        ("before", Duration::ZERO, killed),
        ("after one is killed", killed, drained),
        ("while one drains", drained, withdrawn),
        ("after it was withdrawn", withdrawn, slowed),
        ("while one is slow", slowed, recovered),
        ("after it recovered", recovered, Duration::MAX),
    ];
    for (what, from, to) in parts {
        // A failed call counts at its end, because a call in flight at the kill was due before the kill.
        let failed = |call: &&Call| call.failed && (from..to).contains(&(call.due + call.took));
        let failed = as_f64(run.calls.iter().filter(failed).count());
        let figure = Figure::counted(format!("{name}: failed calls {what}"), failed, "");
        let limit = if from == killed { as_f64(run.in_flight) } else { 0.0 };
        let ours = arm == ChannelArm::Ours;
        figures.add(if ours { figure.at_most(limit) } else { figure });
        let due = run.calls.iter().filter(|call| (from..to).contains(&call.due));
        let took = Latencies::new(due.map(|call| call.took.as_secs_f64()))?;
        let p99 = took.percentile(99.0).unwrap_or(f64::NAN) * 1e3;
        figures.add(Figure::timed(format!("{name}: p99 {what}"), p99, "ms"));
    }
    figures.note(format!(
        "{name}: {} calls were in flight on the killed instance, {} reached the draining instance after it was registered as draining",
        run.in_flight, run.after_drain
    ));
    Ok(())
}

impl Schedule {
    async fn run(&self, fleet: &mut Fleet, caller: &Caller) -> Result<Run> {
        let start = Instant::now() + Duration::from_millis(100);
        let (results, mut finished) = mpsc::channel(10_000);
        let calls = tokio::spawn(call_all(self.length, start, caller.clone(), results));
        let mut renewals = interval(Duration::from_millis(500));
        let mut faults = self.faults.iter().peekable();
        let (mut in_flight, mut drained) = (0, None);
        let mut made = Vec::new();
        loop {
            let next = faults.peek().map_or(self.length * 10, |(at, _)| *at);
            tokio::select! {
                call = finished.recv() => match call {
                    Some(call) => made.push(call),
                    None => break,
                },
                _ = renewals.tick() => fleet.keep_alive().await?,
                () = sleep_until(start + next) => {
                    match faults.next().context("a fault without a schedule")?.1 {
                        Fault::Kill(n) => in_flight = fleet.kill(n).await?,
                        Fault::Drain(n) => {
                            fleet.drain(n).await?;
                            drained = Some((n, fleet.calls()[n]));
                        }
                        Fault::Withdraw(n) => fleet.withdraw(n).await?,
                        Fault::Slow(n, takes) => fleet.set_call_time(n, takes),
                    }
                }
            }
        }
        calls.await??;
        let after_drain = drained.map_or(0, |(n, before)| fleet.calls()[n] - before);
        Ok(Run { calls: made, in_flight, after_drain })
    }
}

async fn call_all(
    length: Duration,
    start: Instant,
    caller: Caller,
    results: mpsc::Sender<Call>,
) -> Result<()> {
    let period = Duration::from_secs(1) / PER_SECOND;
    let mut due = Duration::ZERO;
    while due < length {
        sleep_until(start + due).await;
        // Makes all calls that are due by now, because the timer has a resolution of 1 ms.
        while start + due <= Instant::now() {
            let (caller, results, this_due) = (caller.clone(), results.clone(), due);
            tokio::spawn(async move {
                let outcome = timeout(CALL_TIMEOUT, caller.call()).await;
                let failed = !matches!(outcome, Ok(Ok(())));
                let took = (start + this_due).elapsed();
                // The receiver is only dropped if the run has failed.
                let _ = results.send(Call { due: this_due, took, failed }).await;
            });
            due += period;
        }
    }
    Ok(())
}
