//! A server that crashes under writes, and an outage that is longer than the leases.

use super::servers::{Mode, Server};
use crate::arms::{Client, TTL};
use crate::harness::StoreOptions;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::BTreeSet;
use std::future::pending;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The ttl of the leases, shorter than the outage. etcd grants at least 2 s.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(3);

/// The length of the outage.
pub(super) const OUTAGE: Duration = Duration::from_secs(5);

/// How many instances are registered when the outage begins.
pub(super) const INSTANCES: usize = 50;

/// How long a server may take to restart and answer.
const RESTART_TIMEOUT: Duration = Duration::from_secs(20);

/// The fewest acknowledged writes that make a round valid. A busy disk gets more time for them.
const MIN_ACKNOWLEDGED: usize = 10;

/// The acknowledged writes that a crash lost.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CrashLoss {
    /// Registrations that were acknowledged before the crash.
    pub(super) acknowledged: usize,
    /// Of these, the registrations that are missing after the restart.
    pub(super) lost: usize,
}

/// The instances that survived an outage.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Outage {
    /// Records that were registered when the outage began.
    pub(super) registered: usize,
    /// Of these, the instances that are listed after the outage, before any renewal.
    pub(super) listed: usize,
}

/// Crashes a server under writes, so long after they began, and restarts it.
pub(super) async fn crash(mode: Mode, at: &StoreOptions, after: Duration) -> Result<CrashLoss> {
    let mut server = Server::start(mode, at).await?;
    let client = server.client(mode).await?;
    let acknowledged = crash_under_writes(&mut server, &*client, after).await?;
    server.process()?.restart().await?;
    let left = list_after_restart(&server, mode).await?;
    let lost = (0..acknowledged).filter(|id| !left.contains(&id.to_string())).count();
    Ok(CrashLoss { acknowledged, lost })
}

/// Kills a server, and restarts it after all leases have expired.
pub(super) async fn survive_outage(mode: Mode, at: &StoreOptions) -> Result<Outage> {
    let mut server = Server::start(mode, at).await?;
    let client = server.client(mode).await?;
    for id in 0..INSTANCES {
        client.register(&id.to_string(), LEASE_TTL).await?;
    }
    let registered = client.listed().await?.len();
    ensure!(
        registered == INSTANCES,
        "invalid: only {registered} were registered before the outage"
    );
    if mode == Mode::RedisDefault {
        // Otherwise it loses everything that is not on disk, which the crash has already shown.
        if let Server::Redis(redis) = &server {
            let redis = redis::Client::open(redis.url())?;
            let mut operator = redis.get_multiplexed_async_connection().await?;
            redis::cmd("SAVE").exec_async(&mut operator).await?;
        }
    }
    server.process()?.kill()?;
    sleep(OUTAGE).await;
    server.process()?.restart().await?;
    Ok(Outage { registered, listed: list_after_restart(&server, mode).await?.len() })
}

/// Registers one instance after the other, and kills the server meanwhile. Returns how many it acknowledged.
async fn crash_under_writes(
    server: &mut Server,
    client: &dyn Client,
    length: Duration,
) -> Result<usize> {
    let (end, enough, mut acknowledged) = (Instant::now() + length, Notify::new(), 0);
    let writes = async {
        // The first failure ends the writes: whether it took effect is unknown.
        while client.register(&acknowledged.to_string(), TTL).await.is_ok() {
            acknowledged += 1;
            if acknowledged > MIN_ACKNOWLEDGED {
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
    ensure!(
        acknowledged > MIN_ACKNOWLEDGED,
        "invalid: only {acknowledged} writes were acknowledged"
    );
    Ok(acknowledged)
}

/// Returns the instances that a new client of a restarted server lists.
async fn list_after_restart(server: &Server, mode: Mode) -> Result<BTreeSet<String>> {
    let listed = async {
        loop {
            if let Ok(client) = server.client(mode).await
                && let Ok(listed) = client.listed().await
            {
                return listed;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(RESTART_TIMEOUT, listed).await.context("the server did not restart")
}
