//! 100,000 leases on etcd kept alive by one process, and how fast it registers.

use crate::arms::{Arm, EtcdTwin, Ours, Request};
use crate::harness::etcd_server::OURS;
use crate::harness::{
    EtcdServer, Figure, Figures, as_f64, in_turns, one_thread, process_time, two_threads,
};
use crate::workloads::{IN_FLIGHT, RequestGenerator, Workload, deregister};
use anyhow::{Context, Result, ensure};
use etcd_client::GetOptions;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use registry_engine::{Registration, RegistrationOptions, Start};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(super) fn figures(quick: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let seconds = Duration::from_secs;
    let (many, ttl) = if quick { (2_000, seconds(3)) } else { (100_000, seconds(60)) };
    two_threads()?.block_on(keep_alive_all(&mut figures, many, ttl))?;
    one_thread()?.block_on(rates(&mut figures, if quick { 500 } else { 10_000 }))?;
    Ok(figures)
}

/// Keeps so many alive, and looks at what that takes, over one ttl.
async fn keep_alive_all(figures: &mut Figures, many: usize, ttl: Duration) -> Result<()> {
    let server = EtcdServer::start().await?;
    let registry = Arc::new(server.registry().await?);
    // In the background: a slow server is retried, and reported below.
    let start = Start::InBackground;
    let options = RegistrationOptions { ttl: Some(ttl), start, ..RegistrationOptions::default() };
    let mut generator = RequestGenerator::new(Workload::Register)?;
    let requests = generator.requests(many)?;
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
    let rate = as_f64(many) / start.elapsed().as_secs_f64();
    sleep(ttl / 3).await;
    let (before, start, spent) = (server.metrics().await?, Instant::now(), process_time());
    sleep(ttl).await; // each is renewed three times, and looked at once
    let (cores, wall) = (process_time() - spent, start.elapsed().as_secs_f64());
    let after = server.metrics().await?;

    let since = |method| -> Result<f64> {
        Ok(after.requests(Some(method))? - before.requests(Some(method)).unwrap_or_default())
    };
    let (renewals, looks) = (since("LeaseKeepAlive")?, since("Range").unwrap_or_default());
    let repeated = before.requests(Some("LeaseGrant"))? - as_f64(many);
    let mut kv = server.client().await?.kv_client();
    let all = GetOptions::new().with_prefix().with_count_only();
    let found = kv.get(format!("{OURS}/{}/", generator.service), Some(all)).await?.count();
    let is_inactive = |registration: &&Registration| !registration.status().is_active();
    let inactive = registrations.iter().filter(is_inactive).count();
    drop(registrations);

    let name = |what: &str| format!("{many} leases: {what}");
    let none = |what: &str, count: f64| Figure::counted(name(what), count, "").exactly(0.0);
    figures.add(Figure::timed(name("registered by the engine"), rate, "/s"));
    figures.add(Figure::timed(name("grants repeated meanwhile"), repeated, ""));
    figures.add(Figure::timed(name("of a core"), 100.0 * cores / wall, "%").aim(5.0));
    figures.add(Figure::timed(name("renewals"), renewals / wall, "/s"));
    figures.add(Figure::timed(name("looks whether the record is there"), looks / wall, "/s"));
    figures.add(Figure::timed(name("a renewal, a third of a look"), cores * 1e6 / renewals, "us"));
    let streams = after.streams("LeaseKeepAlive")?;
    figures.add(Figure::counted(name("streams at the server"), streams, "").at_most(4.0));
    figures.add(none("expired at the server", after.expired()?));
    figures.add(none("granted anew", since("LeaseGrant")?));
    figures.add(none("not active", as_f64(inactive)));
    figures.add(none("records missing", as_f64(many) - as_f64(u64::try_from(found)?)));
    figures.note(&server.description);
    figures
        .note(format!("kept for {ttl:?}, their ttl, a third of it after the last was registered"));
    Ok(())
}

/// Registers so many at once, in turns.
async fn rates(figures: &mut Figures, many: usize) -> Result<()> {
    let server = EtcdServer::start().await?;
    let ours = Ours::new(server.registry().await?);
    let raw = EtcdTwin::connect(&server.address).await?;
    let mut refused = Vec::new();
    let samples = in_turns(3, async |arm| {
        let (rate, failed) = match arm {
            1 => register(&ours, many, IN_FLIGHT).await?,
            2 => register(&ours, many, many).await?,
            _ => register(&raw, many, IN_FLIGHT).await?,
        };
        ensure!(arm == 2 || failed == 0, "{failed} of {many} failed");
        if arm == 2 {
            refused.push(as_f64(failed));
        }
        Ok(rate)
    })
    .await?;
    let name = format!("{many} registered: ");
    let arms = ["raw, 64 in flight", "ours, 64 in flight", "ours, all in flight", "raw"];
    figures.add_turns(&name, arms, &samples, "/s", |figure| figure);
    figures.add(Figure::median(format!("{name}ours, all in flight: failed"), &refused, ""));
    figures.note("registered: one grant and one transaction each; rates of those that were, so more is better; beyond 5,000 that wait, etcd refuses with `too many requests`");
    Ok(())
}

/// How many a second were registered, and how many were not.
async fn register<A: Arm>(arm: &A, many: usize, in_flight: usize) -> Result<(f64, usize)> {
    let requests: Vec<Request> = RequestGenerator::new(Workload::Register)?.requests(many)?;
    let start = Instant::now();
    let held = stream::iter(&requests).map(|request| arm.register(request));
    let held: Vec<Result<A::Lease>> = held.buffer_unordered(in_flight).collect().await;
    let took = start.elapsed();
    let held: Vec<A::Lease> = held.into_iter().filter_map(Result::ok).collect();
    let (registered, failed) = (as_f64(held.len()), many - held.len());
    deregister(arm, held).await?;
    Ok((registered / took.as_secs_f64(), failed))
}
