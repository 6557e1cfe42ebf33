//! Calls at fixed times, whether those before them are done or not, while things happen.

use crate::arms::Caller;
use crate::harness::Fleet;
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until, timeout};

/// How long a call may take before its caller gives up.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// What happens to an instance.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Kill(usize),
    Drain(usize),
    Leave(usize),
    Slow(usize, Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) per_second: u32,
    pub(super) length: Duration,
    pub(super) faults: Vec<(Duration, Fault)>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Since the start.
    pub(super) due: Duration,
    /// Since it was due.
    pub(super) took: Duration,
    pub(super) failed: bool,
}

/// What became of a run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) calls: Vec<Call>,
    /// Calls that were under way at the instance that was killed.
    pub(super) under_way: u64,
    /// Calls that reached the draining instance after it had said so.
    pub(super) after_drain: u64,
}

impl Schedule {
    /// Makes all calls, and all faults.
    pub(super) async fn run(&self, fleet: &mut Fleet, caller: &Caller) -> Result<Run> {
        let start = Instant::now() + Duration::from_millis(100);
        let (results, mut finished) = mpsc::channel(10_000);
        let calls = tokio::spawn(call_all(self.clone(), start, caller.clone(), results));
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
    schedule: Schedule,
    start: Instant,
    caller: Caller,
    results: mpsc::Sender<Call>,
) -> Result<()> {
    let period = Duration::from_secs(1) / schedule.per_second;
    let mut due = Duration::ZERO;
    while due < schedule.length {
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
