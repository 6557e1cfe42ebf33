//! A service of 100,000 instances on etcd: read, decoded and ready to pick.

use crate::arms::decoded;
use crate::arms::etcd_twin::{check_options, pages, watch_options};
use crate::harness::etcd_server::OURS;
use crate::harness::{EtcdServer, Figure, Figures, Plan, compare, process_time};
use crate::workloads::{Repeated, RequestGenerator, Runner, Workload};
use anyhow::{Context, Result, ensure};
use etcd_client::{Client, LeaseGrantOptions, PutOptions, Txn, TxnOp};
use futures_util::future::try_join;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_core::encoding;
use registry_core::{CallOptions, InstanceId, LeaseId, Record, Registry, ServiceName};
use registry_engine::{Discovery, DiscoveryOptions};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (many, rounds) = if quick { (5_000, 3) } else { (100_000, 9) };
    let plan = Plan { rounds, round: Duration::ZERO, turns: 1, batch: 1 };
    let server = EtcdServer::start().await?;
    let (client, registry) = (server.client().await?, server.registry().await?);
    let service = fill(&client, many).await?;
    let mut figures = Figures::default();

    let raw = |watches: bool| {
        let (client, prefix) = (client.clone(), prefix(&service));
        Runner::new("raw", Repeated(async move || raw(&client, &prefix, many, watches).await))
    };
    let loaded = || {
        let (registry, service) = (registry.clone(), service.clone());
        let load = async move || {
            let snapshot = registry.load(&service, &CallOptions::DEFAULT).await?;
            ensure!(snapshot.records().len() == many, "a load is short");
            Ok(snapshot)
        };
        Runner::new("ours", Repeated(load))
    };
    let viewed = || {
        let (registry, service) = (Arc::new(registry.clone()), service.clone());
        let view = async move || {
            let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
            let mut view = discovery.view(&service);
            view.ready(Duration::from_secs(60)).await?;
            ensure!(view.state().records().len() == many, "a view is short");
            Ok(view)
        };
        Runner::new("a view", Repeated(view))
    };
    for (name, ours, watches) in
        [("loaded", &loaded as &dyn Fn() -> Runner, false), ("in a live view", &viewed, true)]
    {
        let name = format!("{many} {name}");
        let reads = [reads(&server, raw(watches)).await?, reads(&server, ours()).await?];
        let compared = compare([ours(), raw(watches), raw(watches)], plan).await?;
        let mut spent = Vec::new();
        for _ in 0..rounds {
            spent.push(spent_on(ours()).await? / spent_on(raw(watches)).await?);
        }
        let target = |figure: Figure| figure.at_most(1.25).aim(1.05);
        figures.add_comparison([&name, "ours", "raw"], &compared, ("ms", 1e3), target);
        figures.add(Figure::median(format!("{name}: of our processor, ours / raw"), &spent, "x"));
        let figure = Figure::counted(format!("{name}: reads (raw {})", reads[0]), reads[1], "");
        // A discovery asks for a sign of life every third of a ttl, at first at a random time.
        figures.add(figure.at_most(reads[0] + if watches { 1.0 } else { 0.0 }));
    }
    figures.add(Figure::median("decoding alone", &decode(&client, &service).await?, "ms"));
    figures.note(&server.description);
    figures.note("raw reads the same pages at the same revision and decodes no record");
    figures.note("in a live view: from nothing, until it is ready; raw also opens a watch and has etcd look for the key put last, as the view does");
    Ok(figures)
}

/// Reads the pages as they come; and where it `watches` what a view asks for then: it opens a watch, and reads
/// meanwhile which key was put last.
async fn raw(
    client: &Client,
    prefix: &str,
    many: usize,
    watches: bool,
) -> Result<impl Sized + use<>> {
    let (revision, pages) = pages(client, prefix).await?;
    ensure!(pages.iter().flatten().count() == many, "a read is short");
    let mut watch = None;
    if watches {
        let options = watch_options(prefix, 1).with_start_revision(revision + 1);
        let (mut client, mut kv) = (client.watch_client(), client.kv_client());
        let opened = client.watch(prefix, Some(options));
        let newest = kv.get(prefix, Some(check_options(prefix, revision)));
        watch = Some(try_join(opened, newest).await?.0);
    }
    Ok((pages, watch))
}

/// Puts so many instances under one lease.
async fn fill(client: &Client, many: usize) -> Result<ServiceName> {
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let lease = LeaseId::random().get();
    let with_id = LeaseGrantOptions::new().with_id(lease);
    client.lease_client().grant(3600, Some(with_id)).await?;
    let prefix = prefix(&generator.service);
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
    Ok(generator.service.clone())
}

fn prefix(service: &ServiceName) -> String {
    format!("{OURS}/{service}/")
}

/// How many reads the server sees for one.
async fn reads(server: &EtcdServer, mut runner: Runner) -> Result<f64> {
    let before = server.metrics().await?.requests(Some("Range")).unwrap_or_default();
    runner.time(1).await?;
    Ok(server.metrics().await?.requests(Some("Range"))? - before)
}

/// The seconds that this process runs for.
async fn spent_on(mut runner: Runner) -> Result<f64> {
    let before = process_time();
    runner.time(1).await?;
    Ok(process_time() - before)
}

/// The milliseconds that it takes to decode what was read.
async fn decode(client: &Client, service: &ServiceName) -> Result<Vec<f64>> {
    let prefix = prefix(service);
    let (_, pages) = pages(client, &prefix).await?;
    let mut times = Vec::new();
    for _ in 0..7 {
        let mut instances = Vec::new();
        let start = Instant::now();
        for kv in pages.iter().flatten() {
            let id = kv.key().strip_prefix(prefix.as_bytes()).context("a key of another")?;
            let id = InstanceId::new(str::from_utf8(id)?)?;
            instances.push(decoded(service, &id, kv.value())?);
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
        black_box(instances);
    }
    Ok(times)
}
