//! Compares the time of one call through the balanced channel with tonic's channels.

use crate::arms::{ChannelArm, TTL};
use crate::harness::{Figures, Fleet, compare_anew, plan};
use crate::workloads::{Repeated, Runner};
use anyhow::Result;
use std::time::Duration;

const ENDPOINTS: usize = 3;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    // The ttl outlasts the run, so no lease is renewed, and no other work runs between the calls.
    let fleet = Fleet::start(ENDPOINTS, Duration::ZERO, TTL).await?;
    let mut figures = Figures::default();
    for (other, limit, aim) in [(ChannelArm::Direct, 1.05, 1.01), (ChannelArm::Balance, 1.0, 0.97)]
    {
        let runners = async || {
            let ours = runner(&fleet, ChannelArm::Ours).await?;
            Ok([ours, runner(&fleet, other).await?, runner(&fleet, other).await?])
        };
        let compared = compare_anew(plan(quick), runners).await?;
        let arms = ["ours", other.name()];
        figures.add_comparison("call", arms, &compared, |x| x.at_most(limit).aim(aim));
    }
    figures.note(format!(
        "p50 of alternating empty unary calls on loopback, with new connections in each round: {ENDPOINTS} endpoints, but one for `{}`", ChannelArm::Direct.name()
    ));
    Ok(figures)
}

/// Returns a runner of calls, after enough calls to connect to all endpoints.
async fn runner(fleet: &Fleet, arm: ChannelArm) -> Result<Runner> {
    let caller = arm.caller(fleet.view().await?)?;
    for _ in 0..10 * ENDPOINTS {
        caller.call().await?;
    }
    Ok(Runner::new(arm.name(), Repeated(async move || Ok(caller.call().await?))))
}
