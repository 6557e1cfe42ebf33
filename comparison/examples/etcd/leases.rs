//! 100,000 leases kept alive by one process, and how fast it registers.

use crate::server::{OURS, Server};
use crate::twin::Twin;
use anyhow::{Context, Result, ensure};
use comparison::arms::ours::Ours;
use comparison::arms::{Arm, Request};
use comparison::figures::{Figure, Report};
use comparison::meter::{as_f64, process_time};
use comparison::sections::one_thread;
use comparison::workloads::{RequestGenerator, Workload};
use etcd_client::GetOptions;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_engine::{Registration, RegistrationOptions, Start};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::{Instant, sleep};

/// How many requests are under way at once.
const IN_FLIGHT: usize = 64;

pub(crate) fn report(quick: bool) -> Result<Report> {
    let mut report = Report::default();
    let seconds = Duration::from_secs;
    let (many, ttl) = if quick { (2_000, seconds(3)) } else { (100_000, seconds(60)) };
    // As a service has it: two threads.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(keep_alive_all(&mut report, many, ttl))?;
    drop(runtime);
    let (many, rounds) = if quick { (500, 3) } else { (10_000, 3) };
    one_thread()?.block_on(rates(&mut report, many, rounds))?;
    Ok(report)
}

/// Keeps so many alive, and looks at what that takes, over one ttl.
async fn keep_alive_all(report: &mut Report, many: usize, ttl: Duration) -> Result<()> {
    let server = Server::start().await?;
    let registry = Arc::new(server.registry().await?);
    // In the background: a slow server is retried, and reported below.
    let start = Start::InBackground;
    let options = RegistrationOptions { ttl: Some(ttl), start, ..RegistrationOptions::default() };
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let requests = (0..many).map(|_| generator.request()).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let registrations = stream::iter(requests).map(async |request| {
        let start = Registration::start(registry.clone(), request.instance, options.clone());
        let registration = start.await?;
        let mut states = registration.statuses();
        while !registration.status().is_active() {
            states.next().await.context("a registration has ended")?;
        }
        anyhow::Ok(registration)
    });
    let registrations: Vec<Registration> =
        registrations.buffer_unordered(IN_FLIGHT).try_collect().await?;
    let rate = as_f64(many as u64) / start.elapsed().as_secs_f64();
    sleep(ttl / 3).await;
    let (before, start, spent) = (server.metrics().await?, Instant::now(), process_time());
    sleep(ttl).await; // each is renewed three times, and looked at once
    let (cores, wall) = (process_time() - spent, start.elapsed().as_secs_f64());
    let after = server.metrics().await?;

    let since = |method| -> Result<f64> {
        Ok(after.requests(Some(method))? - before.requests(Some(method)).unwrap_or_default())
    };
    let (renewals, looks) = (since("LeaseKeepAlive")?, since("Range").unwrap_or_default());
    let anew = since("LeaseGrant")?;
    let repeated = before.requests(Some("LeaseGrant"))? - as_f64(many as u64);
    let mut kv = server.client().await?.kv_client();
    let all = GetOptions::new().with_prefix().with_count_only();
    let found = kv.get(format!("{OURS}/{}/", generator.service()), Some(all)).await?.count();
    let inactive =
        registrations.iter().filter(|registration| !registration.status().is_active()).count();
    drop(registrations);

    let name = |what: &str| format!("{many} leases: {what}");
    report.add(Figure::timed(name("registered by the engine"), rate, "/s"));
    report.add(Figure::timed(name("grants repeated meanwhile"), repeated, ""));
    report.add(Figure::timed(name("of a core"), 100.0 * cores / wall, "%").aim(5.0));
    report.add(Figure::timed(name("renewals"), renewals / wall, "/s"));
    report.add(Figure::timed(name("looks whether the record is there"), looks / wall, "/s"));
    report.add(Figure::timed(name("a renewal, a third of a look"), cores * 1e6 / renewals, "us"));
    let streams = after.streams("LeaseKeepAlive")?;
    report.add(Figure::counted(name("streams at the server"), streams, "").at_most(4.0));
    let none = |what: &str, count: f64| Figure::counted(name(what), count, "").exactly(0.0);
    report.add(none("expired at the server", after.expired().unwrap_or_default()));
    report.add(none("granted anew", anew));
    report.add(none("not active", as_f64(inactive as u64)));
    let missing = as_f64(many as u64) - as_f64(u64::try_from(found)?);
    report.add(none("records missing", missing));
    report.note(&server.description);
    report
        .note(format!("kept for {ttl:?}, their ttl, a third of it after the last was registered"));
    Ok(())
}

/// Registers so many at once, in turns.
async fn rates(report: &mut Report, many: usize, rounds: usize) -> Result<()> {
    let server = Server::start().await?;
    let ours = Ours::new(server.registry().await?);
    let raw = Twin::connect(&server.address, false).await?;
    let mut rates: [Vec<f64>; 4] = Default::default();
    let mut refused = Vec::new();
    for round in 0..=rounds {
        for place in 0..rates.len() {
            let arm = (round + place) % rates.len();
            let (rate, failed) = match arm {
                0 => register(&ours, many, IN_FLIGHT).await?,
                1 => register(&ours, many, many).await?,
                _ => register(&raw, many, IN_FLIGHT).await?,
            };
            ensure!(arm == 1 || failed == 0, "{failed} of {many} failed");
            if round > 0 {
                rates[arm].push(rate); // the first warmed up
            }
            if arm == 1 {
                refused.push(as_f64(failed as u64));
            }
        }
    }
    let [bounded, unbounded, raw, again] = rates;
    let ratio = |rates: &[f64]| -> Vec<f64> {
        rates.iter().zip(&raw).map(|(rate, raw)| rate / raw).collect()
    };
    let name = |what: &str| format!("{many} registered: {what}");
    report.add(Figure::median(name("raw, 64 in flight"), &raw, "/s"));
    report.add(Figure::median(name("ours, 64 in flight"), &bounded, "/s"));
    report.add(Figure::median(name("ours, all in flight"), &unbounded, "/s"));
    report.add(Figure::median(name("ours / raw, 64 in flight"), &ratio(&bounded), "x"));
    report.add(Figure::median(name("ours, all in flight / raw"), &ratio(&unbounded), "x"));
    report.add(Figure::median(name("A/A: raw / raw"), &ratio(&again), "x"));
    report.add(Figure::median(name("ours, all in flight: failed"), &refused, ""));
    report.note("registered: one grant and one transaction each; rates of those that were, so more is better; beyond 5,000 that wait, etcd refuses with `too many requests`");
    Ok(())
}

/// How many a second were registered, and how many were not.
async fn register<A: Arm>(arm: &A, many: usize, in_flight: usize) -> Result<(f64, usize)> {
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let requests = (0..many).map(|_| generator.request()).collect::<Result<Vec<Request>>>()?;
    let start = Instant::now();
    let held = stream::iter(&requests).map(|request| arm.register(request));
    let held: Vec<Result<A::Lease>> = held.buffer_unordered(in_flight).collect().await;
    let took = start.elapsed();
    let held: Vec<A::Lease> = held.into_iter().filter_map(Result::ok).collect();
    let (registered, failed) = (as_f64(held.len() as u64), many - held.len());
    let withdrawn = stream::iter(held).map(Ok);
    withdrawn.try_for_each_concurrent(IN_FLIGHT, |held| arm.deregister(held)).await?;
    Ok((registered / took.as_secs_f64(), failed))
}
