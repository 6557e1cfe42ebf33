//! One call at a time: the balanced channel beside tonic's.

use crate::arms::{ChannelArm, TTL};
use crate::harness::{Accept, Figure, Figures, Fleet, Latencies, compare_anew, plan};
use crate::workloads::{Repeated, Runner};
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::Instant;

const ENDPOINTS: usize = 3;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    // Nobody renews a lease here, so that nothing comes between the calls.
    let fleet = Fleet::start(ENDPOINTS, Duration::ZERO, TTL).await?;
    let mut figures = Figures::default();
    for (other, limit, aim) in [(ChannelArm::Direct, 1.05, 1.01), (ChannelArm::Balance, 1.0, 0.97)]
    {
        let runners = async || {
            let (ours, again) =
                (runner(&fleet, ChannelArm::Ours).await?, runner(&fleet, other).await?);
            Ok([ours, runner(&fleet, other).await?, again])
        };
        let compared = compare_anew(plan(quick), runners).await?;
        let target = |figure: Figure| figure.at_most(limit).aim(aim);
        figures.add_comparison("call", ["ours", other.name()], &compared, target);
    }
    add_listener(&mut figures, &fleet, quick).await?;
    figures.note(format!(
        "p50 of an empty unary call to {ENDPOINTS} endpoints on loopback, in turns at every call, each round over new connections"
    ));
    Ok(figures)
}

/// What the listener of `serve` costs a call, beside tonic's own, in turns at every call.
async fn add_listener(figures: &mut Figures, ours: &Fleet, quick: bool) -> Result<()> {
    let tonics = Fleet::start_with(Accept::Tonic, ENDPOINTS, Duration::ZERO, TTL).await?;
    let mut arms = Vec::new();
    for (name, fleet) in [("serve", ours), ("tonic", &tonics), ("tonic, again", &tonics)] {
        arms.push((name, ChannelArm::Direct.caller(fleet.view().await?)?, Vec::new()));
    }
    for call in 0..if quick { 1_000 } else { 30_000 } {
        for n in 0..arms.len() {
            let (_, caller, took) = &mut arms[(call + n) % 3];
            let start = Instant::now();
            caller.call().await?;
            took.push(start.elapsed().as_secs_f64());
        }
    }
    for (name, _, took) in arms {
        let latencies = Latencies::of(took.into_iter().skip(100))?; // the first ones connect
        for percentile in [50.0, 99.0] {
            let value = latencies.percentile(percentile).context("no calls")? * 1e6;
            let name = format!("listener of {name}: p{percentile} of a call");
            figures.add(Figure::timed(name, value, "us"));
        }
    }
    Ok(())
}

/// Calls, all of whose endpoints are connected to.
async fn runner(fleet: &Fleet, arm: ChannelArm) -> Result<Runner> {
    let caller = arm.caller(fleet.view().await?)?;
    for _ in 0..10 * ENDPOINTS {
        caller.call().await?;
    }
    Ok(Runner::new(arm.name(), Repeated(async move || Ok(caller.call().await?))))
}
