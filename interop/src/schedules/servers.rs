//! Events of servers.

use crate::figures::Marks;
use crate::fleet::Fleet;
use crate::schedule::SAME_ID;
use crate::stage::Stage;
use anyhow::{Context, Result};

/// Starts another server.
pub(super) async fn join(stage: &mut Stage) -> Result<Vec<Marks>> {
    stage
        .on_each_fleet(async |fleet, launcher, marks| {
            let language = fleet.languages[0];
            let at = fleet.start(launcher, language, None).await?;
            marks.starts.push((newest(fleet)?, at));
            Ok(())
        })
        .await
}

/// Terminates the first server.
pub(super) async fn drain(stage: &mut Stage) -> Result<Vec<Marks>> {
    stage.on_each_fleet(async |fleet, _, marks| stop(fleet, 0, marks).await).await
}

/// Kills the first server.
pub(super) async fn kill(stage: &mut Stage) -> Result<Vec<Marks>> {
    stage
        .on_each_fleet(async |fleet, _, marks| {
            let mut server = fleet.servers.remove(0);
            let (before, after) = server.program.kill().await?;
            marks.kills.push((before, after));
            marks.stops.push((server.address, before));
            Ok(())
        })
        .await
}

/// Replaces servers six times, one after the other.
pub(super) async fn rolling(stage: &mut Stage) -> Result<Vec<Marks>> {
    const RESTARTS: usize = 6;
    stage
        .on_each_fleet(async |fleet, launcher, marks| {
            for _ in 0..RESTARTS {
                let language = fleet.servers[0].language;
                stop(fleet, 0, marks).await?;
                let at = fleet.start(launcher, language, None).await?;
                marks.starts.push((newest(fleet)?, at));
            }
            Ok(())
        })
        .await
}

/// Starts a second server with the same id, and terminates it. The first one must be called again.
pub(super) async fn same_id(stage: &mut Stage) -> Result<Vec<Marks>> {
    stage
        .on_each_fleet(async |fleet, launcher, marks| {
            let language = fleet.languages[1];
            fleet.start(launcher, language, SAME_ID).await?;
            let first = fleet.servers[0].address.clone();
            stop(fleet, 1, marks).await?;
            // Later failed calls do not count for the stopped server, because there is no other server.
            let stopped = marks.stops.drain(..).map(|(_, at)| at).next_back();
            let stopped = stopped.context("no server was stopped")?;
            fleet.await_calls(&first, stopped).await?;
            marks.starts.push((first, stopped));
            Ok(())
        })
        .await
}

/// Kills the first server, and starts one with the same id at another port.
pub(super) async fn moved_id(stage: &mut Stage) -> Result<Vec<Marks>> {
    stage
        .on_each_fleet(async |fleet, launcher, marks| {
            let mut server = fleet.servers.remove(0);
            let (before, after) = server.program.kill().await?;
            marks.kills.push((before, after));
            marks.stops.push((server.address, before));
            let at = fleet.start(launcher, server.language, server.id).await?;
            marks.starts.push((newest(fleet)?, at));
            Ok(())
        })
        .await
}

/// Terminates a server, and waits for its end.
async fn stop(fleet: &mut Fleet, server: usize, marks: &mut Marks) -> Result<()> {
    let mut server = fleet.servers.remove(server);
    let at = server.program.terminate()?;
    marks.stops.push((server.address, at));
    if let Err(error) = server.program.ended().await {
        marks.problems.push(format!("{error:#}"));
    }
    Ok(())
}

fn newest(fleet: &Fleet) -> Result<String> {
    let newest = fleet.servers.last().context("the fleet has no servers")?;
    Ok(newest.address.clone())
}
