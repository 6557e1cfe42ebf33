//! 1,000 services watched by one process, beside one.

use crate::arms::{Request, TTL};
use crate::harness::{Figure, Figures, Latencies, RedisServer};
use anyhow::{Context, Result};
use futures_util::stream::{SelectAll, StreamExt};
use registry_core::{CallOptions, Change, Registry, ServiceName, Watch};
use registry_redis::RedisRegistry;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::interval;

/// How far apart the events are.
const INTERVAL: Duration = Duration::from_millis(2);

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (many, events, rounds) = if quick { (50, 200, 1) } else { (1_000, 2_000, 5) };
    let servers = [RedisServer::start().await?, RedisServer::start().await?];
    let mut figures = Figures::default();
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
        let mut add = |what: &str, of: fn(&Round) -> f64| {
            let samples: Vec<f64> = rounds.iter().map(of).collect();
            figures.add(Figure::median(format!("{count} watched: {what}"), &samples, "us"));
        };
        add("an event, p50", |round| round.p50);
        add("an event, p99", |round| round.p99);
        add("of the server's processor, an event", |round| round.cpu);
        let connections = f64::from(u32::try_from(server.counts().await?.connections())?);
        let name = format!("{count} watched: connections");
        figures.add(Figure::counted(name, connections, "").at_most(2.0));
    }
    figures.note(&servers[0].description);
    figures.note(format!("an event every {INTERVAL:?}, each of another service; from when its call was due to the change in hand; the processor's time is that of the calls and all reads, without an event's share of an idle second"));
    Ok(figures)
}

/// Services, watched by one process.
struct WatchedServices<'a> {
    server: &'a RedisServer,
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
    async fn watch(server: &'a RedisServer, count: usize) -> Result<Self> {
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
                    let (registry, request) = (self.registry.clone(), Request::new(&name, &id, TTL)?);
                    let Request { instance, claim } = request;
                    calls.spawn(async move {
                        registry.register(&instance, &claim, &CallOptions::DEFAULT).await
                    });
                }
                batch = self.watches.next() => {
                    for change in &batch.context("the watches ended")??.changes {
                        if let Change::Put(record) = change
                            && let Some(due) = due.remove(record.id().as_str())
                        {
                            took.push(due.elapsed().as_secs_f64());
                        }
                    }
                }
            }
        }
        while let Some(outcome) = calls.join_next().await {
            outcome??;
        }
        let cpu = self.server.counts().await?.cpu()? - before;
        let took = Latencies::of(took)?;
        let at = |percent| took.percentile(percent).unwrap_or(f64::NAN) * 1e6;
        let cpu = cpu * 1e6 / f64::from(u32::try_from(events)?);
        Ok(Round { p50: at(50.0), p99: at(99.0), cpu })
    }
}
