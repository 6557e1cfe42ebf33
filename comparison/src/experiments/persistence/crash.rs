//! A server that is killed under writes, and one that is away for longer than its leases last.

use super::servers::{Keeper, Mode, Server};
use crate::stores::Where;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::future::pending;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How long a lease lasts that an outage is to outlast. etcd grants no less than 2 s.
pub(super) const SHORT: Duration = Duration::from_secs(3);

/// How long the outage is.
pub(super) const OUTAGE: Duration = Duration::from_secs(5);

/// How many instances are there when it begins.
pub(super) const INSTANCES: usize = 50;

/// How long a server may take to come back and answer.
const BACK_WITHIN: Duration = Duration::from_secs(20);

/// So few acknowledged writes say nothing. A disk that is busy takes longer for more than it is given.
const FEW: usize = 10;

/// What became of what a killed server had acknowledged.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Killed {
    /// Registrations that were acknowledged before the server was killed.
    pub(super) acknowledged: usize,
    /// Of these, those that are not there when it is back.
    pub(super) lost: usize,
}

/// What became of those who lived before an outage.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Outage {
    /// Instances that were there when an outage began that outlasted their leases.
    pub(super) there: usize,
    /// Of these, those that are listed after it, before anybody renewed.
    pub(super) listed: usize,
}

/// Kills a server under writes that go on for so long before, and starts it again.
pub(super) async fn kill(mode: Mode, at: &Where, after: Duration) -> Result<Killed> {
    let mut server = Server::start(mode, at).await?;
    let keeper = server.keeper(mode).await?;
    let acknowledged = killed_under_writes(&mut server, &keeper, after).await?;
    server.process()?.restart().await?;
    let left = back(&server, mode).await?;
    let lost = (0..acknowledged).filter(|id| !left.contains(id)).count();
    Ok(Killed { acknowledged, lost })
}

/// Kills a server, and starts it again when all leases are over.
pub(super) async fn outlast(mode: Mode, at: &Where) -> Result<Outage> {
    let mut server = Server::start(mode, at).await?;
    let keeper = server.keeper(mode).await?;
    for id in 0..INSTANCES {
        keeper.register(id, SHORT).await?;
    }
    let there = keeper.listed().await?.len();
    ensure!(there == INSTANCES, "invalid: only {there} were there when the outage began");
    if mode == Mode::RedisAsItComes {
        // What is not on disk is lost, which is shown already.
        if let Server::Redis(redis) = &server {
            let client = redis::Client::open(redis.url())?;
            let mut operator = client.get_multiplexed_async_connection().await?;
            redis::cmd("SAVE").exec_async(&mut operator).await?;
        }
    }
    server.process()?.kill()?;
    sleep(OUTAGE).await;
    server.process()?.restart().await?;
    Ok(Outage { there, listed: back(&server, mode).await?.len() })
}

/// Registers one instance after the other, and kills the server meanwhile. How many it acknowledged.
async fn killed_under_writes(
    server: &mut Server,
    keeper: &Keeper,
    length: Duration,
) -> Result<usize> {
    let (end, enough, mut acknowledged) = (Instant::now() + length, Notify::new(), 0);
    let writes = async {
        // The first that fails is the end: whether it was made nobody knows.
        while keeper.register(acknowledged, crate::arms::TTL).await.is_ok() {
            acknowledged += 1;
            if acknowledged > FEW {
                enough.notify_one();
            }
        }
    };
    let operator = async {
        sleep_until(end).await;
        enough.notified().await;
        server.process()?.kill()?;
        pending::<Result<()>>().await
    };
    tokio::select! {
        () = writes => {}
        outcome = operator => outcome?,
    }
    ensure!(server.process()?.pid().is_none(), "invalid: the server was not killed");
    ensure!(acknowledged > FEW, "invalid: only {acknowledged} writes were acknowledged");
    Ok(acknowledged)
}

/// What a server that is back lists, to who comes anew.
async fn back(server: &Server, mode: Mode) -> Result<Vec<usize>> {
    let listed = async {
        loop {
            if let Ok(keeper) = server.keeper(mode).await
                && let Ok(listed) = keeper.listed().await
            {
                return listed;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(BACK_WITHIN, listed).await.context("it did not come back")
}
