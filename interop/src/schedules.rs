//! The steps of each schedule.

mod keys;
mod servers;
mod store;

use crate::figures::Marks;
use crate::schedule::Schedule;
use crate::stage::Stage;
use anyhow::Result;

/// Runs the schedule of a stage, and returns the marks of each fleet.
pub(crate) async fn run(stage: &mut Stage) -> Result<Vec<Marks>> {
    match stage.spec.schedule {
        Schedule::Join => servers::join(stage).await,
        Schedule::Drain | Schedule::Ipv6 | Schedule::Hostname | Schedule::Auth | Schedule::Tls => {
            servers::drain(stage).await
        }
        Schedule::Kill => servers::kill(stage).await,
        Schedule::Rolling => servers::rolling(stage).await,
        Schedule::SameId => servers::same_id(stage).await,
        Schedule::MovedId => servers::moved_id(stage).await,
        Schedule::KeyDeleted => keys::key_deleted(stage).await,
        Schedule::PrefixDeleted => keys::prefix_deleted(stage).await,
        Schedule::LeaseRevoked => keys::lease_revoked(stage).await,
        Schedule::SideKeys => keys::side_keys(stage).await,
        Schedule::Down5 => store::down(stage, 5, false).await,
        Schedule::Down15 => store::down(stage, 15, false).await,
        Schedule::Wiped => store::down(stage, 15, true).await,
        Schedule::Compaction => store::compaction(stage).await,
        Schedule::CutCompaction => store::cut_compaction(stage).await,
        Schedule::LeaderChange => store::leader_change(stage).await,
        Schedule::QuorumLost => store::quorum_lost(stage).await,
    }
}
