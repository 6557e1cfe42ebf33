//! Many watches of one process: the time to open them, the latency of an event among them, and a restart of etcd.

use super::OUR_ARM;
use crate::arms::Ours;
use crate::arms::etcd::{RAW_PREFIX, watch_options};
use crate::harness::fixture::{LONG, service};
use crate::harness::{
    Comparison, EtcdServer, Figure, Figures, Plan, Server, Store, as_f64, compare, in_turns,
    prepare,
};
use crate::workloads::{IN_FLIGHT, Workload};
use anyhow::{Context, Result};
use etcd_client::Client;
use futures_util::future::{try_join, try_join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{CallOptions, Cursor, Registry, ServiceName, Watch};
use registry_engine::{Discovery, DiscoveryOptions, View};
use registry_etcd::{EtcdOptions, EtcdRegistry};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn etcd(quick: bool) -> Result<Figures> {
    let (many, rounds) = if quick { (500, 3) } else { (10_000, 21) };
    let mut figures = Figures::default();
    let names = (0..many).map(service).collect::<Result<Vec<_>>>()?;
    Box::pin(open(&mut figures, &names, rounds)).await?;
    events(&mut figures, Store::Etcd, &names, quick).await?;
    reopen(&mut figures, &names).await?;
    Ok(figures)
}

pub(super) async fn redis(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let names = (0..if quick { 50 } else { 1_000 }).map(service).collect::<Result<Vec<_>>>()?;
    events(&mut figures, Store::Redis, &names, quick).await?;
    Ok(figures)
}

/// Restarts etcd while a process has many views, and measures until all are live again.
async fn reopen(figures: &mut Figures, names: &[ServiceName]) -> Result<()> {
    let mut server = EtcdServer::start().await?;
    let registry = Arc::new(server.registry().await?);
    let discovery = Discovery::new(registry, DiscoveryOptions::default());
    let mut views: Vec<View> = names.iter().map(|name| discovery.view(name)).collect();
    try_join_all(views.iter_mut().map(|view| view.ready(Duration::from_secs(60)))).await?;
    server.etcd.process()?.kill()?;
    let until_stale = async |view: &mut View| {
        while view.status().is_live() {
            view.changed().await?;
        }
        anyhow::Ok(())
    };
    try_join_all(views.iter_mut().map(until_stale)).await?;
    let restart = Instant::now();
    server.etcd.process()?.restart().await?;
    let up = restart.elapsed().as_secs_f64();
    let all_ready = try_join_all(views.iter_mut().map(|view| view.ready(Duration::from_secs(300))));
    all_ready.await.context("a view did not become live after the restart of etcd")?;
    let reopened = restart.elapsed().as_secs_f64();
    figures.add(Figure::timed(format!("{} views: etcd accepts calls after", names.len()), up, "s"));
    figures.add(Figure::timed(format!("{} views: all live after", names.len()), reopened, "s"));
    Ok(())
}

/// Opens many watches, alternating with the raw client.
async fn open(figures: &mut Figures, names: &[ServiceName], rounds: usize) -> Result<()> {
    let (server, many) = (EtcdServer::start().await?, names.len());
    // Counts only the reads that open watches: liveness probes are due after an hour, and audits are disabled.
    let (silence_timeout, audit_interval) = (Some(LONG), None);
    let options = EtcdOptions { silence_timeout, audit_interval, ..EtcdOptions::default() };
    let registry = EtcdRegistry::connect_with(&server.url().parse()?, options).await?;
    let ours = WatchOpener::new(Arc::new(registry), names).await?;
    let (raw, raw_again) = (server.client().await?, server.client().await?);
    let open_before = server.metrics().await?.watchers()?;
    let (mut reads, mut streams) = (0.0, 0.0);
    let samples = in_turns(rounds, async |arm| {
        let took = if arm == OUR_ARM {
            let cursors = ours.cursors().await?;
            let before = server.metrics().await?;
            let (took, _watches) = ours.open(&cursors).await?;
            let after = server.metrics().await?;
            reads += after.requests("Range")? - before.requests("Range")?;
            streams = after.streams("Watch")?;
            took
        } else {
            open_raw(if arm == 0 { &raw } else { &raw_again }, names).await?
        };
        server.wait_for_watchers(0.0..=open_before).await?;
        Ok(took.as_secs_f64() * 1e3)
    })
    .await?;
    let arms = ["raw, one stream", "ours", "raw"];
    figures.add_turns(format!("{many} watches"), arms, &samples, "ms", |x| x.at_most(1.2));
    figures.add(Figure::counted("watch streams of the registry on etcd", streams, "").exactly(1.0));
    figures.add(Figure::counted("reads to open the watches", reads, "").exactly(0.0));
    figures.note(&server.description);
    figures.note("from the first call until all watches are open; raw sends all requests on an open stream and reads the responses concurrently; etcd 3.4 opens watches slowly for any client");
    Ok(())
}

/// Measures the latency of an event on a server with many open watches, alternating with a server with one watch.
async fn events(
    figures: &mut Figures,
    store: Store,
    names: &[ServiceName],
    quick: bool,
) -> Result<()> {
    let (rounds, round) =
        if quick { (3, Duration::from_millis(100)) } else { (9, Duration::from_secs(2)) };
    let (crowded, quiet) = (Server::start(store).await?, Server::start(store).await?);
    let registry = crowded.registry().await?;
    let crowd = WatchOpener::new(registry.clone(), names).await?;
    let (_, watches) = crowd.open(&crowd.cursors().await?).await?;
    let arms = (Ours::new(registry), quiet.ours().await?, quiet.ours().await?);
    let runners = prepare([&arms.0, &*arms.1, &*arms.2], Workload::RegisterToWatch).await?;
    let rounds = compare(runners, Plan { rounds, round, turns: 3, batch: 1 }).await?;
    let compared = Comparison::new(&rounds);
    let open = format!("{} open", watches.len());
    figures.add_comparison("an event", [&open, "1 open"], &compared, |x| x.at_most(1.1));
    if let Server::Redis(redis) = &crowded {
        let connections = as_f64(redis.counts().await?.connections());
        let figure = Figure::counted(format!("connections, {open}"), connections, "");
        figures.add(figure.at_most(2.0));
    }
    figures.note(crowded.description());
    figures.note("an event: p50 from before the call of `register` until a watch yields the change, on a server with many watches and on a server with one watch");
    Ok(())
}

/// A registry that opens watches. Its open watch spares the check of cursors that are loaded after it.
struct WatchOpener<'a> {
    registry: Arc<dyn Registry>,
    names: &'a [ServiceName],
    _anchor: Watch,
}

impl<'a> WatchOpener<'a> {
    async fn new(registry: Arc<dyn Registry>, names: &'a [ServiceName]) -> Result<Self> {
        let anchor = ServiceName::new("anchor")?;
        let cursor = registry.load(&anchor, &CallOptions::DEFAULT).await?.cursor().clone();
        let anchor = registry.watch(&anchor, &cursor, &CallOptions::DEFAULT).await?;
        Ok(Self { registry, names, _anchor: anchor })
    }

    async fn cursors(&self) -> Result<Vec<Cursor>> {
        let loads = stream::iter(self.names).map(async |name| {
            anyhow::Ok(self.registry.load(name, &CallOptions::DEFAULT).await?.cursor().clone())
        });
        loads.buffered(IN_FLIGHT).try_collect().await
    }

    async fn open(&self, cursors: &[Cursor]) -> Result<(Duration, Vec<Watch>)> {
        let start = Instant::now();
        let watches = self.names.iter().zip(cursors);
        let watches =
            watches.map(|(name, cursor)| self.registry.watch(name, cursor, &CallOptions::DEFAULT));
        let watches = try_join_all(watches).await?;
        Ok((start.elapsed(), watches))
    }
}

/// Watches all services with the raw client on one stream, and returns the time until all watches are open.
async fn open_raw(client: &Client, names: &[ServiceName]) -> Result<Duration> {
    let mut watches = client.watch_client();
    let (mut requests, mut responses) = watches.watch("anchor", None).await?.split();
    let created = responses.message().await?.context("the stream ended")?;
    let revision = created.header().context("a response without a header")?.revision();
    let start = Instant::now();
    let sent = async {
        for (name, id) in names.iter().zip(1..) {
            let key = format!("{RAW_PREFIX}/{name}/");
            let options = watch_options(&key, id).with_start_revision(revision + 1);
            requests.watch(key, Some(options)).await?;
        }
        anyhow::Ok(())
    };
    let answered = async {
        let mut pending = names.len();
        while pending > 0 {
            let answer = responses.message().await?.context("the stream ended")?;
            pending -= usize::from(answer.created());
        }
        Ok(())
    };
    try_join(sent, answered).await?;
    Ok(start.elapsed())
}
