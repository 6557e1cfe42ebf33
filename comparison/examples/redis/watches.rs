//! 1,000 services watched by one process, beside one.

use crate::server::Server;
use anyhow::{Context, Result};
use comparison::figures::{Figure, Report};
use comparison::sections::one_thread;
use futures_util::stream::{SelectAll, StreamExt};
use registry_core::{CallOptions, Change, Claim, Instance, Registry, ServiceName, Watch};
use registry_redis::RedisRegistry;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// How far apart the events are.
const INTERVAL: Duration = Duration::from_millis(2);

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (many, events, rounds) = if quick { (50, 200, 1) } else { (1_000, 2_000, 5) };
    one_thread()?.block_on(async {
        let servers = [Server::start().await?, Server::start().await?];
        let mut report = Report::default();
        let mut groups = Vec::new();
        for (server, count) in servers.iter().zip([many, 1]) {
            groups.push(WatchedServices::watch(server, count).await?);
        }
        let mut seen: [Vec<Round>; 2] = Default::default();
        for _ in 0..rounds {
            for (services, seen) in groups.iter_mut().zip(&mut seen) {
                seen.push(services.round(events).await?);
            }
        }
        for ((rounds, count), server) in seen.iter().zip([many, 1]).zip(&servers) {
            let of = |pick: fn(&Round) -> f64| rounds.iter().map(pick).collect::<Vec<_>>();
            let name = format!("{count} watched");
            let figure = |what: &str, samples: &[f64]| {
                Figure::median(format!("{name}: {what}"), samples, "us")
            };
            report.add(figure("an event, p50", &of(|round| round.p50)));
            report.add(figure("an event, p99", &of(|round| round.p99)));
            report.add(figure("of the server's processor, an event", &of(|round| round.cpu)));
            let connections = server.counts().await?.connections();
            let connections = f64::from(u32::try_from(connections)?);
            report.add(Figure::counted(format!("{name}: connections"), connections, "").at_most(2.0));
        }
        report.note(&servers[0].description);
        report.note(format!("an event every {INTERVAL:?}, each of another service; from when its call was due to the change in hand; the processor's time is that of the calls and all reads, without an event's share of an idle second"));
        Ok(report)
    })
}

/// Services, watched by one process.
struct WatchedServices<'a> {
    server: &'a Server,
    registry: RedisRegistry,
    names: Vec<ServiceName>,
    watches: SelectAll<Watch>,
    made: usize,
}

struct Round {
    p50: f64,
    p99: f64,
    cpu: f64,
}

impl<'a> WatchedServices<'a> {
    async fn watch(server: &'a Server, count: usize) -> Result<Self> {
        let registry = server.registry().await?;
        let (mut names, mut watches) = (Vec::new(), SelectAll::new());
        for n in 0..count {
            let name: ServiceName = format!("service-{n}").parse()?;
            let now = registry.load(&name, &CallOptions::DEFAULT).await?;
            watches.push(registry.watch(&name, now.cursor(), &CallOptions::DEFAULT).await?);
            names.push(name);
        }
        Ok(Self { server, registry, names, watches, made: 0 })
    }

    /// Makes events at a fixed rate, and sees them come.
    async fn round(&mut self, events: usize) -> Result<Round> {
        let before = self.server.counts().await?.cpu()?;
        let mut ticks = interval(INTERVAL);
        let (mut due, mut took, mut left) = (HashMap::new(), Vec::new(), events);
        let mut calls = tokio::task::JoinSet::new();
        while left > 0 || !due.is_empty() {
            tokio::select! {
                at = ticks.tick(), if left > 0 => {
                    left -= 1;
                    self.made += 1;
                    let name = self.names[self.made % self.names.len()].clone();
                    let id = format!("{}", self.made);
                    due.insert(id.clone(), at);
                    let instance = Instance::new(name, id.parse()?, "10.0.0.1:80".parse()?);
                    let (registry, claim) = (self.registry.clone(), Claim::new(Duration::from_secs(3600))?);
                    calls.spawn(async move { registry.register(&instance, &claim, &CallOptions::DEFAULT).await });
                }
                batch = self.watches.next() => {
                    for change in &batch.context("the watches ended")??.changes {
                        if let Change::Put(record) = change
                            && let Some(due) = due.remove(record.id().as_str())
                        {
                            took.push(Instant::now().duration_since(due).as_secs_f64() * 1e6);
                        }
                    }
                }
            }
        }
        while let Some(outcome) = calls.join_next().await {
            outcome??;
        }
        let cpu = self.server.counts().await?.cpu()? - before;
        took.sort_by(f64::total_cmp);
        let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        Ok(Round { p50, p99, cpu: cpu * 1e6 / f64::from(u32::try_from(events)?) })
    }
}
