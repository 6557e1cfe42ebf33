//! One call at a time: the registry beside the raw client.

use crate::arms::Arm;
use crate::figures::{Figure, Report};
use crate::paired::{self, Comparison, Plan, Round};
use crate::workloads::{Runner, Workload};
use anyhow::Result;
use std::time::Duration;

/// How long to measure a call: for a figure, or to see that it works.
pub fn plan(quick: bool) -> Plan {
    if quick {
        Plan { rounds: 3, round: Duration::from_millis(100), turns: 3, batch: 1 }
    } else {
        Plan { rounds: 21, round: Duration::from_secs(1), turns: 3, batch: 1 }
    }
}

/// Compares a call in turns, each round over new connections: one differs from another by some percent,
/// for as long as it lasts.
pub async fn compare<O: Arm, R: Arm>(
    workload: Workload,
    plan: Plan,
    ours: &impl AsyncFn() -> Result<O>,
    raw: &impl AsyncFn() -> Result<R>,
) -> Result<Comparison> {
    let mut rounds = Vec::with_capacity(plan.rounds);
    for _ in 0..plan.rounds {
        rounds.push(round(workload, plan, ours, raw).await?);
    }
    Ok(Comparison::new(&rounds))
}

async fn round<O: Arm, R: Arm>(
    workload: Workload,
    plan: Plan,
    ours: &impl AsyncFn() -> Result<O>,
    raw: &impl AsyncFn() -> Result<R>,
) -> Result<Round> {
    let (ours, raw, again) = (ours().await?, raw().await?, raw().await?);
    let mut ours = Runner::prepare("ours", &ours, workload).await?;
    let mut raw = Runner::prepare("raw", &raw, workload).await?;
    let mut again = Runner::prepare("raw, again", &again, workload).await?;
    let warm_up = Plan { round: plan.round / 3, ..plan };
    paired::round(&mut ours, &mut raw, &mut again, warm_up).await?;
    let round = paired::round(&mut ours, &mut raw, &mut again, plan).await?;
    for runner in [ours, raw, again] {
        runner.finish().await?;
    }
    Ok(round)
}

/// Adds what came out, with the target for the ratio.
pub fn add_times(report: &mut Report, name: &str, figures: &Comparison, limit: f64, aim: f64) {
    let Comparison { first, second, ratio, floor } = *figures;
    report.add(Figure::timed(format!("{name}: ours"), first * 1e6, "us"));
    report.add(Figure::timed(format!("{name}: raw"), second * 1e6, "us"));
    let ratio = Figure::spread(format!("{name}: ours / raw"), ratio, "x");
    report.add(ratio.at_most(limit).aim(aim));
    report.add(Figure::spread(format!("{name}: A/A: raw / raw"), floor, "x"));
    if !figures.is_sound() {
        report.note(format!("{name}: void, A/A left 0.98..1.02"));
    }
}
