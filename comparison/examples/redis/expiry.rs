//! How late an expiry is seen: with the registry, and with keys with a ttl and keyspace notifications.

use crate::server::Server;
use anyhow::{Context, Result};
use comparison::figures::{Figure, Report};
use comparison::sections::one_thread;
use comparison::workloads::{RequestGenerator, Workload};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{CallOptions, Change, Claim, Registry};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, interval, timeout_at};

/// The ttl of the probes.
const TTL: Duration = Duration::from_secs(1);

/// How many probes there are, and the time between two.
const PROBES: u64 = 200;
const INTERVAL: Duration = Duration::from_millis(25);

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (counts, notification_timeout): (&[usize], _) = if quick {
        (&[100], Duration::from_secs(5))
    } else {
        (&[100, 10_000, 100_000], Duration::from_secs(60))
    };
    one_thread()?.block_on(async {
        let mut report = Report::default();
        for &others in counts {
            let server = Server::start().await?;
            let ours = ours(&server, others).await?;
            let server = Server::start().await?;
            let keys_with_ttl = keys_with_ttl(&server, others, notification_timeout).await?;
            let figure = |whose: &str, p: f64, late: &[f64]| {
                Figure::timed(format!("beside {others}: {whose}, p{p}"), at(late, p), "ms")
            };
            report.add(figure("ours", 50.0, &ours));
            report.add(figure("ours", 99.0, &ours).at_most(100.0).aim(50.0));
            report.add(figure("keys with a ttl", 50.0, &keys_with_ttl));
            report.add(figure("keys with a ttl", 99.0, &keys_with_ttl));
            let better = at(&keys_with_ttl, 99.0) / at(&ours, 99.0);
            report.add(Figure::timed(format!("beside {others}: p99, keys / ours"), better, "x"));
            if others == counts[counts.len() - 1] {
                report.note(&server.description);
            }
        }
        report.note(format!("{PROBES} expire, one every {INTERVAL:?}, {TTL:?} after registration; from before that call to the event, minus the ttl"));
        report.note(format!("keys: SET PX, and the notification `expired`; what was not notified {notification_timeout:?} later counts as {notification_timeout:?}"));
        Ok(report)
    })
}

/// Returns how many milliseconds late each expiry was, sorted.
async fn ours(server: &Server, others: usize) -> Result<Vec<f64>> {
    let registry = server.registry().await?;
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let requests = (0..others).map(|_| generator.request()).collect::<Result<Vec<_>>>()?;
    let registered = stream::iter(&requests).map(async |request| {
        registry.register(&request.instance, &request.claim, &CallOptions::DEFAULT).await.map(drop)
    });
    registered.buffer_unordered(64).try_collect::<()>().await?;

    let now = registry.load(generator.service(), &CallOptions::DEFAULT).await?;
    let mut watch =
        registry.watch(generator.service(), now.cursor(), &CallOptions::DEFAULT).await?;
    let mut due = HashMap::new();
    let mut late = Vec::new();
    let mut ticks = interval(INTERVAL);
    let mut left = PROBES;
    while left > 0 || !due.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if left > 0 => {
                left -= 1;
                let instance = generator.request()?.instance;
                due.insert(instance.id().clone(), Instant::now() + TTL);
                registry.register(&instance, &Claim::new(TTL)?, &CallOptions::DEFAULT).await?;
            }
            batch = watch.next() => {
                for change in &batch.context("the watch ended")??.changes {
                    if let Change::Delete(deleted) = change
                        && let Some(due) = due.remove(deleted.id())
                    {
                        late.push(due.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
        }
    }
    late.sort_by(f64::total_cmp);
    Ok(late)
}

async fn keys_with_ttl(
    server: &Server,
    others: usize,
    notification_timeout: Duration,
) -> Result<Vec<f64>> {
    let mut connection = server.connection().await?;
    let notify = ["SET", "notify-keyspace-events", "Ex"];
    redis::cmd("CONFIG").arg(&notify).exec_async(&mut connection).await?;
    for chunk in (0..others).collect::<Vec<_>>().chunks(1000) {
        let mut pipeline = redis::pipe();
        for n in chunk {
            pipeline.cmd("SET").arg(format!("others-{n}")).arg("").arg("EX").arg(3600).ignore();
        }
        pipeline.exec_async(&mut connection).await?;
    }
    let mut events = server.client()?.get_async_pubsub().await?;
    events.psubscribe("__keyevent@0__:expired").await?;
    let mut events = events.into_on_message();
    let mut due = HashMap::new();
    let mut late = Vec::new();
    let mut ticks = interval(INTERVAL);
    let mut left = PROBES;
    let mut end = Instant::now() + TTL + notification_timeout;
    while left > 0 || !due.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if left > 0 => {
                let key = format!("probe-{left}");
                left -= 1;
                due.insert(key.clone(), Instant::now() + TTL);
                end = Instant::now() + TTL + notification_timeout;
                let ttl = u64::try_from(TTL.as_millis())?;
                redis::cmd("SET").arg(key).arg("").arg("PX").arg(ttl).exec_async(&mut connection).await?;
            }
            event = timeout_at(end, events.next()) => {
                let Ok(event) = event else { break };
                let key: String = event.context("the notifications ended")?.get_payload()?;
                if let Some(due) = due.remove(&key) {
                    late.push(due.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
    late.extend(due.values().map(|_| notification_timeout.as_secs_f64() * 1e3));
    late.sort_by(f64::total_cmp);
    Ok(late)
}

/// A percentile of what is sorted.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index of a few hundred"
)]
fn at(sorted: &[f64], percent: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * percent / 100.0).round() as usize).copied().unwrap_or(f64::NAN)
}
