//! How late an observer sees that an instance has expired, beside so many live ones.

use super::super::{Effort, Progress, as_f64, with_timeout};
use crate::observers::{ArmOptions, Change, EventLog, ObserverArm, OpenArm, Servers, Writer};
use crate::stores::StoreOptions;
use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use registry_testbed::servers::{Redis, ServerOptions};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

/// The ttl of an instance: the least that etcd grants.
pub(super) const TTL: Duration = Duration::from_secs(2);

/// How many instances expire, one shortly after the other.
pub(super) const EXPIRING: u8 = 20;

/// How long after its ttl an expiry may be seen. Redis checks some 200 keys with a ttl in a second.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(120);

/// The arms. The fields of a hash do not expire.
pub(super) const ARMS: [ObserverArm; 4] = [
    ObserverArm::Keyspace,
    ObserverArm::OursOnRedis,
    ObserverArm::OursOnEtcd,
    ObserverArm::OursInMemory,
];

/// The result of one arm in one round: how late each expiry was seen, in milliseconds, sorted.
pub(super) type Run = Vec<f64>;

/// The results.
#[derive(Debug, Serialize)]
pub(super) struct Expirations {
    /// The servers, and how they persist a write.
    pub(super) servers: Vec<String>,
    /// All rounds of each arm, by the number of other instances.
    pub(super) late: BTreeMap<usize, BTreeMap<ObserverArm, Vec<Run>>>,
}

pub(super) async fn run(
    at: &StoreOptions,
    effort: Effort,
    progress: Progress<'_>,
) -> Result<Expirations> {
    let counts: &[usize] = if effort.quick { &[0, 1_000] } else { &[0, 1_000, 10_000] };
    let own = |options: &ServerOptions| ServerOptions { url: None, ..options.clone() };
    let at = StoreOptions { etcd: own(&at.etcd), redis: own(&at.redis) };
    let mut expirations = Expirations { servers: Vec::new(), late: BTreeMap::new() };
    for round in 0..effort.rounds as usize {
        for others in counts.iter().copied() {
            let done = as_f64(round) / as_f64(effort.rounds as usize);
            progress(&format!("expirations beside {others} others, round {}", round + 1), done);
            let mut servers = Servers::start(at.clone()).await?;
            let redis = Redis::start_with(at.redis.clone()).await?;
            expirations.servers = servers.describe().await?;
            let notifying = Servers { etcd: None, redis };
            let all_registered = Barrier::new(ARMS.len());
            // Side by side: once all others are registered, nothing but the expiry happens.
            let runs = ARMS.map(|arm| {
                let servers = if arm == ObserverArm::Keyspace { &notifying } else { &servers };
                let all_registered = &all_registered;
                async move {
                    let options = ArmOptions {
                        name: "expirations",
                        payload_len: 0,
                        ttl: TTL,
                        via_proxy: false,
                    };
                    let opened = arm.open(servers, options).await?;
                    let run = once(opened, others, all_registered).await;
                    anyhow::Ok((arm, run.with_context(|| arm.name())?))
                }
            });
            let runs = with_timeout(try_join_all(runs)).await?;
            let late = expirations.late.entry(others).or_default();
            for (arm, run) in runs {
                late.entry(arm).or_default().push(run);
            }
        }
    }
    Ok(expirations)
}

async fn once(opened: OpenArm, others: usize, all_registered: &Barrier) -> Result<Run> {
    let OpenArm { mut writer, observer, log, link: _link } = opened;
    let observing = LocalSet::new();
    observing.spawn_local(observer);
    let work = async {
        writer.register_others(others).await?;
        all_registered.wait().await;
        expire(&mut *writer, &log).await
    };
    observing.run_until(work).await
}

/// Registers instances without renewal, and waits until all are seen to expire.
async fn expire(writer: &mut dyn Writer, log: &EventLog) -> Result<Run> {
    let mut due = Vec::new();
    for id in 0..EXPIRING {
        due.push(Instant::now() + TTL);
        writer.write(Change { id, value: Some(1) }).await?;
        // Not all at the same phase of a periodic check of the store.
        sleep(Duration::from_millis(53)).await;
    }
    let seen = async {
        loop {
            let expired = expired(log);
            if expired.len() == due.len() {
                return expired;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let within = TTL + OBSERVE_TIMEOUT;
    let seen = timeout(within, seen).await.with_context(|| {
        let missing = due.len() - expired(log).len();
        format!("{missing} of {EXPIRING} were not seen to expire in {within:?}")
    })?;
    let mut late = Vec::new();
    for (id, due) in (0..).zip(due) {
        let at = seen.get(&id).context("another instance expired")?;
        // The ttl runs from when the server has the request, which is after it was sent.
        ensure!(*at >= due, "{id} expired {:?} before its ttl", due - *at);
        late.push((*at - due).as_secs_f64() * 1e3);
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

/// Returns the instances that were seen to expire, and when.
fn expired(log: &EventLog) -> BTreeMap<u8, Instant> {
    let deleted =
        |(at, change): (Instant, Change)| change.value.is_none().then_some((change.id, at));
    log.changes().into_iter().filter_map(deleted).collect()
}
