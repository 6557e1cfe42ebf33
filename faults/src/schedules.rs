//! One module for each kind of fault. A schedule injects it, proves that it had an effect, and heals it.

mod backlog;
mod deletion;
mod feed;
mod leader;
mod node;
mod outage;
mod replicas;
mod runtime;
mod scripts;
mod silence;
mod takeover;

use crate::cell::RunSpec;
use crate::report::Report;
use crate::schedule::Schedule;
use crate::stage::{Evidence, Stage};
use anyhow::Result;
use std::time::Duration;
use tokio::time::timeout;

/// The timeout of a run is this time plus four ttls. A run that times out is invalid.
const RUN_WITHIN: Duration = Duration::from_secs(180);

/// Executes one run.
pub(crate) async fn run(spec: RunSpec) -> Report {
    let limit = RUN_WITHIN + 4 * spec.cell.ttl();
    match timeout(limit, execute(spec)).await {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => Report::invalid(format!("{error:#}")),
        Err(_) => Report::invalid(format!("the run did not end within {limit:?}")),
    }
}

async fn execute(spec: RunSpec) -> Result<Report> {
    let mut stage = Stage::open(spec).await?;
    tracing::info!("all views show all owners");
    let evidence = inject(&mut stage).await?;
    tracing::info!(proof = %evidence.proof, "the fault is over");
    stage.settle(&evidence).await;
    Ok(Report::judge(&stage, &evidence))
}

async fn inject(stage: &mut Stage) -> Result<Evidence> {
    match stage.spec.cell.schedule {
        Schedule::SilentLink => silence::run(stage).await,
        Schedule::Restart => outage::restart(stage, outage::Data::Kept).await,
        Schedule::Wipe => outage::restart(stage, outage::Data::Lost).await,
        Schedule::Crash => outage::crash(stage).await,
        Schedule::PausedLeader => leader::run(stage).await,
        Schedule::PausedNode => node::run(stage, node::Silence::Pause).await,
        Schedule::SilentNode => node::run(stage, node::Silence::Link).await,
        Schedule::SilentFeed => feed::run(stage).await,
        Schedule::LostRuntime => runtime::run(stage).await,
        Schedule::FlushedScripts => scripts::run(stage).await,
        Schedule::PausedReplicas => replicas::run(stage).await,
        Schedule::SlowClaim => takeover::run(stage).await,
        Schedule::DeletedKey => deletion::keys(stage).await,
        Schedule::WipedPrefix => deletion::prefix(stage).await,
        Schedule::DeletedAgain => deletion::repeated(stage).await,
        Schedule::SlowBacklog => backlog::run(stage).await,
    }
}
