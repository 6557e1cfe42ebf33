//! Ten instances under calls at fixed times, while one is killed, one drained and one slowed.

use crate::arms::{Caller, ChannelArm};
use crate::harness::{Figure, Figures, Fleet, Latencies, as_f64, one_thread};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};

const INSTANCES: usize = 10;
const PER_SECOND: u32 = 500;
const TTL: Duration = Duration::from_secs(4);
/// How long a call takes, and how long at the one that is slowed.
const TAKES: Duration = Duration::from_millis(2);
const SLOW: Duration = Duration::from_millis(200);

const ARMS: [ChannelArm; 2] = [ChannelArm::Ours, ChannelArm::Balance];

/// How long a call may take before its caller gives up.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// What happens to an instance.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(usize),
    Drain(usize),
    Leave(usize),
    Slow(usize, Duration),
}

#[derive(Debug)]
struct Schedule {
    length: Duration,
    faults: Vec<(Duration, Fault)>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
struct Call {
    /// Since the start.
    due: Duration,
    /// Since it was due.
    took: Duration,
    failed: bool,
}

/// What became of a run.
#[derive(Debug)]
struct Run {
    calls: Vec<Call>,
    /// Calls that were under way at the instance that was killed.
    under_way: u64,
    /// Calls that reached the draining instance after it had said so.
    after_drain: u64,
}

pub(super) fn figures(quick: bool) -> Result<Figures> {
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
    let mut figures = Figures::default();
    for (arm, run) in ARMS.iter().zip(&runs) {
        add(&mut figures, *arm, &schedule, run)?;
    }
    figures.note(format!(
        "{} calls a second, each {} ms, to {INSTANCES} instances; latencies from when a call was due; an instance without renewal is unlisted after {} s",
        PER_SECOND,
        TAKES.as_millis(),
        TTL.as_secs()
    ));
    Ok(figures)
}

/// In steps of so many seconds.
fn schedule(step: u32) -> Schedule {
    let at = |steps| Duration::from_secs(u64::from(step * steps));
    Schedule {
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

fn add(figures: &mut Figures, arm: ChannelArm, schedule: &Schedule, run: &Run) -> Result<()> {
    let name = arm.name();
    let [killed, drained, left, slowed, recovered] = [0, 1, 2, 3, 4].map(|n| schedule.faults[n].0);
    let parts = [
        ("before", Duration::ZERO, killed),
        ("after one is killed", killed, drained),
        ("while one drains", drained, left),
        ("after it left", left, slowed),
        ("while one is slow", slowed, recovered),
        ("after it recovered", recovered, Duration::MAX),
    ];
    for (what, from, to) in parts {
        // By when they ended: a call that was under way at the kill was due before it.
        let failed = |call: &&Call| call.failed && (from..to).contains(&(call.due + call.took));
        let failed = as_f64(run.calls.iter().filter(failed).count());
        let figure = Figure::counted(format!("{name}: failed calls {what}"), failed, "");
        let limit = if from == killed { as_f64(run.under_way) } else { 0.0 };
        let ours = arm == ChannelArm::Ours;
        figures.add(if ours { figure.at_most(limit) } else { figure });
        let due = run.calls.iter().filter(|call| (from..to).contains(&call.due));
        let took = Latencies::of(due.map(|call| call.took.as_secs_f64()))?;
        let p99 = took.percentile(99.0).unwrap_or(f64::NAN) * 1e3;
        figures.add(Figure::timed(format!("{name}: p99 {what}"), p99, "ms"));
    }
    figures.note(format!(
        "{name}: {} calls were under way at the one that was killed, {} began at the one that drained after it had said so",
        run.under_way, run.after_drain
    ));
    Ok(())
}

impl Schedule {
    /// Makes all calls, and all faults.
    async fn run(&self, fleet: &mut Fleet, caller: &Caller) -> Result<Run> {
        let start = Instant::now() + Duration::from_millis(100);
        let (results, mut finished) = mpsc::channel(10_000);
        let calls = tokio::spawn(call_all(self.length, start, caller.clone(), results));
        let mut renewals = interval(Duration::from_millis(500));
        let mut faults = self.faults.iter().peekable();
        let (mut under_way, mut drained) = (0, None);
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
                    match faults.next().context("there is one")?.1 {
                        Fault::Kill(n) => under_way = fleet.kill(n).await?,
                        Fault::Drain(n) => {
                            fleet.drain(n).await?;
                            drained = Some((n, fleet.calls()[n]));
                        }
                        Fault::Leave(n) => fleet.leave(n).await?,
                        Fault::Slow(n, takes) => fleet.slow(n, takes),
                    }
                }
            }
        }
        calls.await??;
        let after_drain = drained.map_or(0, |(n, before)| fleet.calls()[n] - before);
        Ok(Run { calls: made, under_way, after_drain })
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
        // A timer wakes at whole milliseconds: all that is due by then is made.
        while start + due <= Instant::now() {
            let (caller, results, at) = (caller.clone(), results.clone(), due);
            tokio::spawn(async move {
                let outcome = timeout(CALL_TIMEOUT, caller.call()).await;
                let failed = !matches!(outcome, Ok(Ok(())));
                let took = (start + at).elapsed();
                // Nobody listens any more: the run has failed by itself.
                let _ = results.send(Call { due: at, took, failed }).await;
            });
            due += period;
        }
    }
    Ok(())
}
