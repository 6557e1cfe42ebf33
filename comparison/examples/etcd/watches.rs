//! 10,000 watches of one process: to open them, and what they cost an event.

use crate::server::Server;
use crate::twin::{prefix, watch_options};
use anyhow::{Context, Result, ensure};
use comparison::arms::ours::Ours;
use comparison::figures::{Figure, Report};
use comparison::paired::{self, Plan};
use comparison::sections::one_thread;
use comparison::workloads::{Runner, Workload};
use etcd_client::{WatchRequestSender, WatchResponse, WatchResponseStream};
use futures_util::future::{try_join, try_join_all};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::{CallOptions, Cursor, Registry, ServiceName, Watch};
use registry_etcd::EtcdRegistry;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (many, rounds) = if quick { (500, 3) } else { (10_000, 21) };
    let mut report = Report::default();
    one_thread()?.block_on(open(&mut report, many, rounds))?;
    one_thread()?.block_on(events(&mut report, many, quick))?;
    Ok(report)
}

/// Opens so many, in turns with the raw client.
async fn open(report: &mut Report, many: usize, rounds: usize) -> Result<()> {
    let server = Server::start().await?;
    let names = (0..many).map(name).collect::<Result<Vec<_>>>()?;
    let ours = OpenWatches::new(server.registry().await?, &names).await?;
    let mut raw = [RawWatches::new(&server).await?, RawWatches::new(&server).await?];
    let open_before = server.metrics().await?.watchers()?;
    let mut times: [Vec<f64>; 3] = Default::default();
    let (mut reads, mut streams) = (0.0, 0.0);
    for round in 0..=rounds {
        for place in 0..times.len() {
            let arm = (round + place) % times.len();
            let took = if arm == 0 {
                let cursors = ours.cursors().await?;
                let before = server.metrics().await?;
                let (took, watches) = ours.open(&cursors).await?;
                let after = server.metrics().await?;
                let count =
                    |method| anyhow::Ok((after.requests(method)?, before.requests(method)?));
                let (now, then) = count(Some("Range"))?;
                reads += now - then;
                streams = after.streams("Watch")? - 2.0; // two are raw
                ensure!(watches.len() == many, "not all were opened");
                took
            } else {
                raw[arm - 1].open(&names).await?
            };
            if arm != 0 {
                raw[arm - 1].close(many).await?;
            }
            wait_until_closed(&server, open_before).await?;
            if round > 0 {
                times[arm].push(took.as_secs_f64() * 1e3); // the first warmed up
            }
        }
    }
    let [ours, raw, again] = times;
    let ratio = |times: &[f64]| -> Vec<f64> {
        times.iter().zip(&raw).map(|(time, raw)| time / raw).collect()
    };
    report.add(Figure::median(format!("{many} watches: ours"), &ours, "ms"));
    report.add(Figure::median(format!("{many} watches: raw, one stream"), &raw, "ms"));
    let figure = Figure::median(format!("{many} watches: ours / raw"), &ratio(&ours), "x");
    report.add(figure.at_most(1.2));
    report.add(Figure::median(format!("{many} watches: A/A: raw / raw"), &ratio(&again), "x"));
    report.add(Figure::counted("streams of ours, at the server", streams, "").exactly(1.0));
    report.add(Figure::counted("reads made to open them", reads, "").exactly(0.0));
    report.note(&server.description);
    report.note("from the first call to the last watch in hand; raw sends all requests on an open stream and reads the answers at once; 3.4 is slow at this by itself");
    Ok(())
}

/// An event while so many are open, in turns with one while one is: on two servers, as each knows
/// all watches that are open on it.
async fn events(report: &mut Report, many: usize, quick: bool) -> Result<()> {
    let plan = if quick {
        Plan { rounds: 3, round: Duration::from_millis(100), turns: 3, batch: 1 }
    } else {
        Plan { rounds: 9, round: Duration::from_secs(2), turns: 3, batch: 1 }
    };
    let (crowded, quiet) = (Server::start().await?, Server::start().await?);
    let names = (0..many).map(name).collect::<Result<Vec<_>>>()?;
    let within = crowded.registry().await?;
    let crowd = OpenWatches::new(within.clone(), &names).await?;
    let (_, _watches) = crowd.open(&crowd.cursors().await?).await?;
    let runner = async |name: &str, registry: EtcdRegistry| {
        Runner::prepare(name, &Ours::new(registry), Workload::RegisterToWatch).await
    };
    let mut first = runner("among many", within).await?;
    let mut second = runner("alone", quiet.registry().await?).await?;
    let mut again = runner("alone, again", quiet.registry().await?).await?;
    let figures = paired::compare(&mut first, &mut second, &mut again, plan).await?;
    for runner in [first, second, again] {
        runner.finish().await?;
    }
    let open = crowded.metrics().await?.watchers()?;
    report.add(Figure::timed(format!("an event, {open} open"), figures.first * 1e6, "us"));
    report.add(Figure::timed("an event, 1 open", figures.second * 1e6, "us"));
    let ratio = Figure::spread("an event, many open / 1 open", figures.ratio, "x");
    report.add(ratio.at_most(1.1));
    report.add(Figure::spread("an event: A/A: 1 open / 1 open", figures.floor, "x"));
    if crowded.address == quiet.address {
        report
            .note("events: both on one server, which is given: many are open on it in either case");
    }
    if !figures.is_sound() {
        report.note("events: void, A/A left 0.98..1.02; repeat it when the machine is quieter");
    }
    report
        .note("an event: from before the call of `register` to the change in hand, p50, in turns");
    Ok(())
}

fn name(n: usize) -> Result<ServiceName> {
    Ok(format!("payments.service-{n:05}").parse()?)
}

/// Waits until the server has as many watchers as before.
async fn wait_until_closed(server: &Server, open_before: f64) -> Result<()> {
    let all_gone = async {
        while server.metrics().await?.watchers()? > open_before {
            sleep(Duration::from_millis(20)).await;
        }
        anyhow::Ok(())
    };
    timeout(Duration::from_secs(60), all_gone).await.context("the server keeps its watchers")?
}

/// The registry, with a watch that stands and vouches for what is loaded.
struct OpenWatches<'a> {
    registry: EtcdRegistry,
    names: &'a [ServiceName],
    _anchor: Watch,
}

impl<'a> OpenWatches<'a> {
    async fn new(registry: EtcdRegistry, names: &'a [ServiceName]) -> Result<Self> {
        let anchor = ServiceName::new("anchor")?;
        let cursor = registry.load(&anchor, &CallOptions::DEFAULT).await?.cursor().clone();
        let anchor = registry.watch(&anchor, &cursor, &CallOptions::DEFAULT).await?;
        Ok(Self { registry, names, _anchor: anchor })
    }

    /// Loads all services.
    async fn cursors(&self) -> Result<Vec<Cursor>> {
        let loads = stream::iter(self.names).map(async |name| {
            anyhow::Ok(self.registry.load(name, &CallOptions::DEFAULT).await?.cursor().clone())
        });
        loads.buffered(64).try_collect().await
    }

    /// Watches all services. They are dropped with what it gives.
    async fn open(&self, cursors: &[Cursor]) -> Result<(Duration, Vec<Watch>)> {
        let start = Instant::now();
        let watches = self.names.iter().zip(cursors);
        let watches =
            watches.map(|(name, cursor)| self.registry.watch(name, cursor, &CallOptions::DEFAULT));
        let watches = try_join_all(watches).await?;
        Ok((start.elapsed(), watches))
    }
}

/// The raw client with one stream, on which all is sent at once.
struct RawWatches {
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    revision: i64,
    /// The id of the last watcher.
    last: i64,
}

impl RawWatches {
    async fn new(server: &Server) -> Result<Self> {
        let mut watches = server.client().await?.watch_client();
        let (requests, mut responses) = watches.watch("anchor", None).await?.split();
        let created = responses.message().await?.context("the stream ended")?;
        let revision = created.header().context("an answer without a header")?.revision();
        Ok(Self { requests, responses, revision, last: 0 })
    }

    async fn open(&mut self, names: &[ServiceName]) -> Result<Duration> {
        let Self { requests, responses, revision, last } = self;
        let many = names.len();
        let start = Instant::now();
        let sent = async {
            for name in names {
                *last += 1;
                let key = prefix(name);
                let options = watch_options(&key, *revision + 1, *last);
                requests.watch(key, Some(options)).await?;
            }
            Ok(())
        };
        try_join(sent, read(responses, many, WatchResponse::created)).await?;
        Ok(start.elapsed())
    }

    async fn close(&mut self, many: usize) -> Result<()> {
        let Self { requests, responses, last, .. } = self;
        let sent = async {
            for id in *last - i64::try_from(many)? + 1..=*last {
                requests.cancel(id).await?;
            }
            Ok(())
        };
        try_join(sent, read(responses, many, WatchResponse::canceled)).await?;
        Ok(())
    }
}

/// Reads so many answers of a kind.
async fn read(
    responses: &mut WatchResponseStream,
    many: usize,
    is_meant: impl Fn(&WatchResponse) -> bool,
) -> Result<()> {
    let mut left = many;
    while left > 0 {
        let answer = responses.message().await?.context("the stream ended")?;
        left -= usize::from(is_meant(&answer));
    }
    Ok(())
}
