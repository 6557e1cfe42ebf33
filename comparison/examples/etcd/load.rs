//! A service of 100,000 instances: read, decoded and ready to pick.

use crate::server::{OURS, Server};
use crate::twin::{check_options, pages, watch_options};
use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use comparison::figures::{Figure, Report};
use comparison::meter::process_time;
use comparison::paired::{self, Plan};
use comparison::sections::one_thread;
use comparison::workloads::{RequestGenerator, Runner, Timed, Workload};
use etcd_client::{Client, LeaseGrantOptions, PutOptions, Txn, TxnOp, WatchStream as Events};
use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::encoding;
use registry_core::{CallOptions, InstanceId, LeaseId, Record, Registry, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions};
use registry_etcd::EtcdRegistry;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) fn report(quick: bool) -> Result<Report> {
    let (many, rounds) = if quick { (5_000, 3) } else { (100_000, 9) };
    let plan = Plan { rounds, round: Duration::ZERO, turns: 1, batch: 1 };
    one_thread()?.block_on(async {
        let server = Server::start().await?;
        let (client, registry) = (server.client().await?, server.registry().await?);
        let service = fill(&client, many).await?;
        let mut report = Report::default();
        let raw = |watches| {
            let (client, prefix) = (client.clone(), prefix(&service));
            Raw { client, prefix, many, watches }
        };
        let ours = Ours { registry: registry.clone(), service: service.clone(), many };
        let view = Viewed { registry, service: service.clone(), many };

        let arms: [(&str, Box<dyn Timed>, bool); 2] =
            [("loaded", Box::new(ours), false), ("in a live view", Box::new(view), true)];
        for (name, ours, watches) in arms {
            let mut ours = Runner::new(name, ours);
            let mut raw_again = Runner::new("raw, again", Box::new(raw(watches)));
            let mut raw = Runner::new("raw", Box::new(raw(watches)));
            let reads = [reads(&server, &mut raw).await?, reads(&server, &mut ours).await?];
            let figures = paired::compare(&mut ours, &mut raw, &mut raw_again, plan).await?;
            let mut spent = Vec::new();
            for _ in 0..rounds {
                spent.push(spent_on(&mut ours).await? / spent_on(&mut raw).await?);
            }
            let name = format!("{many} {name}");
            report.add(Figure::timed(format!("{name}: ours"), figures.first * 1e3, "ms"));
            report.add(Figure::timed(format!("{name}: raw"), figures.second * 1e3, "ms"));
            let ratio = Figure::spread(format!("{name}: ours / raw"), figures.ratio, "x");
            report.add(ratio.at_most(1.25).aim(1.05));
            report.add(Figure::spread(format!("{name}: A/A: raw / raw"), figures.floor, "x"));
            let figure =
                Figure::median(format!("{name}: of our processor, ours / raw"), &spent, "x");
            report.add(figure);
            let figure = Figure::counted(format!("{name}: reads (raw {})", reads[0]), reads[1], "");
            // A discovery asks for a sign of life every third of a ttl, at first at a random time.
            report.add(figure.at_most(reads[0] + if watches { 1.0 } else { 0.0 }));
            if !figures.is_sound() {
                report.note(format!(
                    "{name}: void, A/A left 0.98..1.02; repeat it when the machine is quieter"
                ));
            }
        }
        let decoded = decoded(&client, &service).await?;
        report.add(Figure::median("decoding alone", &decoded, "ms"));
        report.note(&server.description);
        report.note("raw reads the same pages at the same revision and decodes no record");
        report.note("in a live view: from nothing, until it is ready; raw also opens a watch and has etcd look for the key put last, as the view does");
        Ok(report)
    })
}

/// Puts so many instances under one lease.
async fn fill(client: &Client, many: usize) -> Result<ServiceName> {
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let lease = LeaseId::random().get();
    let with_id = LeaseGrantOptions::new().with_id(lease);
    client.lease_client().grant(3600, Some(with_id)).await?;
    let prefix = prefix(generator.service());
    let mut puts = Vec::with_capacity(many);
    for _ in 0..many {
        let instance = generator.request()?.instance;
        let under = PutOptions::new().with_lease(lease);
        let key = format!("{prefix}{}", instance.id());
        puts.push(TxnOp::put(key, encoding::encode(&Record::new(instance.clone()))?, Some(under)));
    }
    let txns = stream::iter(puts.chunks(100))
        .map(async |puts| client.kv_client().txn(Txn::new().and_then(puts)).await);
    txns.buffer_unordered(16).try_for_each(async |_| Ok(())).await?;
    Ok(generator.service().clone())
}

fn prefix(service: &ServiceName) -> String {
    format!("{OURS}/{service}/")
}

/// How many reads the server sees for one.
async fn reads(server: &Server, runner: &mut Runner) -> Result<f64> {
    let before = server.metrics().await?.requests(Some("Range")).unwrap_or_default();
    runner.time(1).await?;
    Ok(server.metrics().await?.requests(Some("Range"))? - before)
}

/// The seconds that this process runs for.
async fn spent_on(runner: &mut Runner) -> Result<f64> {
    let before = process_time();
    runner.time(1).await?;
    Ok(process_time() - before)
}

/// The milliseconds that it takes to decode what was read.
async fn decoded(client: &Client, service: &ServiceName) -> Result<Vec<f64>> {
    let prefix = prefix(service);
    let (_, pages) = pages(client, &prefix).await?;
    let mut times = Vec::new();
    for _ in 0..7 {
        let mut instances = Vec::new();
        let start = Instant::now();
        for kv in pages.iter().flatten() {
            let id = kv.key().strip_prefix(prefix.as_bytes()).context("a key of another")?;
            let id = InstanceId::new(str::from_utf8(id)?)?;
            instances.push(comparison::arms::decoded(service, &id, kv.value())?);
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
        black_box(instances);
    }
    Ok(times)
}

/// The pages as they come, and where it `watches` what a view asks for then.
struct Raw {
    client: Client,
    prefix: String,
    many: usize,
    watches: bool,
}

impl Raw {
    /// Opens a watch after `revision`, and reads meanwhile which key was put last by then.
    async fn watch(&self, revision: i64) -> Result<Events> {
        let newest = check_options(&self.prefix, revision);
        let mut watches = self.client.watch_client();
        let watch = watch_options(&self.prefix, revision + 1, 1);
        let opened = watches.watch(self.prefix.as_str(), Some(watch));
        let mut kv = self.client.kv_client();
        let read = kv.get(self.prefix.as_str(), Some(newest));
        let (opened, _) = try_join(opened, read).await?;
        Ok(opened)
    }
}

#[async_trait(?Send)]
impl Timed for Raw {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let (revision, pages) = pages(&self.client, &self.prefix).await?;
            let _watch = if self.watches { Some(self.watch(revision).await?) } else { None };
            total += start.elapsed();
            ensure!(pages.iter().flatten().count() == self.many, "a read is short");
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A load.
#[derive(Clone)]
struct Ours {
    registry: EtcdRegistry,
    service: ServiceName,
    many: usize,
}

#[async_trait(?Send)]
impl Timed for Ours {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let start = Instant::now();
            let snapshot = self.registry.load(&self.service, &CallOptions::DEFAULT).await?;
            total += start.elapsed();
            ensure!(snapshot.instances().len() == self.many, "a load is short");
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// A view, as a caller has it.
struct Viewed {
    registry: EtcdRegistry,
    service: ServiceName,
    many: usize,
}

#[async_trait(?Send)]
impl Timed for Viewed {
    async fn time(&mut self, n: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..n {
            let registry = Arc::new(self.registry.clone());
            let discovery = Discovery::new(registry, DiscoveryOptions::default());
            let start = Instant::now();
            let mut view = discovery.view(&self.service);
            view.ready(Duration::from_secs(60)).await?;
            total += start.elapsed();
            ensure!(view.state().instances().len() == self.many, "a view is short");
        }
        Ok(total)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
