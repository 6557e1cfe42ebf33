//! One call at a time: the balanced channel beside tonic's.

use crate::arms::{Arm, Caller};
use crate::fleet::Fleet;
use anyhow::Result;
use async_trait::async_trait;
use comparison::calls::plan;
use comparison::figures::{Figure, Report};
use comparison::paired::{self, Comparison, Plan};
use comparison::sections::one_thread;
use comparison::workloads::{Runner, Timed};
use std::time::Duration;
use tokio::time::Instant;

const ENDPOINTS: usize = 3;

/// Nobody renews a lease here, so that nothing comes between the calls.
const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn report(quick: bool) -> Result<Report> {
    one_thread()?.block_on(async {
        let fleet = Fleet::start(ENDPOINTS, Duration::ZERO, LONG).await?;
        let mut report = Report::default();
        for (other, limit, aim) in [(Arm::Direct, 1.05, 1.01), (Arm::Balance, 1.0, 0.97)]
        {
            let figures = compare(plan(quick), &fleet, other).await?;
            add(&mut report, other.name(), figures, limit, aim);
        }
        report.note(format!(
            "p50 of an empty unary call to {ENDPOINTS} endpoints on loopback, in turns at every call, each round over new connections"
        ));
        Ok(report)
    })
}

/// The calls of one arm, for a profiler.
pub(crate) fn alone(arm: Arm, iterations: u32) -> Result<()> {
    one_thread()?.block_on(async {
        let fleet = Fleet::start(ENDPOINTS, Duration::ZERO, LONG).await?;
        let mut runner = runner(&fleet, arm).await?;
        runner.time(iterations.into()).await?;
        Ok(())
    })
}

async fn compare(plan: Plan, fleet: &Fleet, other: Arm) -> Result<Comparison> {
    let mut rounds = Vec::with_capacity(plan.rounds);
    for _ in 0..plan.rounds {
        let mut ours = runner(fleet, Arm::Ours).await?;
        let (mut raw, mut again) = (runner(fleet, other).await?, runner(fleet, other).await?);
        let warm_up = Plan { round: plan.round / 3, ..plan };
        paired::round(&mut ours, &mut raw, &mut again, warm_up).await?;
        rounds.push(paired::round(&mut ours, &mut raw, &mut again, plan).await?);
    }
    Ok(Comparison::new(&rounds))
}

fn add(report: &mut Report, other: &str, figures: Comparison, limit: f64, aim: f64) {
    report.add(Figure::timed(format!("beside {other}: ours"), figures.first * 1e6, "us"));
    report.add(Figure::timed(format!("beside {other}: {other}"), figures.second * 1e6, "us"));
    let ratio = Figure::spread(format!("ours / {other}"), figures.ratio, "x");
    report.add(ratio.at_most(limit).aim(aim));
    report.add(Figure::spread(format!("A/A: {other} / {other}"), figures.floor, "x"));
    if !figures.is_sound() {
        report.note(format!("beside {other}: void, A/A left 0.98..1.02"));
    }
}

/// Calls, all of whose endpoints are connected to.
async fn runner(fleet: &Fleet, arm: Arm) -> Result<Runner> {
    let caller = arm.caller(fleet.view().await?)?;
    for _ in 0..10 * ENDPOINTS {
        caller.call().await?;
    }
    Ok(Runner::new(arm.name(), Box::new(Calls(caller))))
}

struct Calls(Caller);

#[async_trait(?Send)]
impl Timed for Calls {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let begun = Instant::now();
        for _ in 0..n {
            self.0.call().await?;
        }
        Ok(begun.elapsed())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
