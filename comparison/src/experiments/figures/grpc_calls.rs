//! One call at a time: the balanced channel beside tonic's.

use crate::arms::{ChannelArm, TTL};
use crate::harness::{Figure, Figures, Fleet, compare_anew, plan};
use crate::workloads::{Repeated, Runner};
use anyhow::Result;
use std::time::Duration;

const ENDPOINTS: usize = 3;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    // No lease is renewed, so that no other work runs between the calls.
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
    figures.note(format!(
        "p50 of an empty unary call to {ENDPOINTS} endpoints on loopback, of alternating calls, with new connections in each round"
    ));
    Ok(figures)
}

/// Returns a runner of calls that is connected to all endpoints.
async fn runner(fleet: &Fleet, arm: ChannelArm) -> Result<Runner> {
    let caller = arm.caller(fleet.view().await?)?;
    for _ in 0..10 * ENDPOINTS {
        caller.call().await?;
    }
    Ok(Runner::new(arm.name(), Repeated(async move || Ok(caller.call().await?))))
}
