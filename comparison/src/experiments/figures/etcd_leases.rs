//! How many registrations a second etcd takes, made one by one or all at once.

use crate::arms::{Arm, Ours, Request};
use crate::harness::{EtcdServer, Figure, Figures, as_f64, in_turns};
use crate::workloads::{IN_FLIGHT, RequestGenerator, Workload, deregister};
use anyhow::{Result, ensure};
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (mut figures, many) = (Figures::default(), if quick { 500 } else { 10_000 });
    let server = EtcdServer::start().await?;
    let ours = Ours::new(server.registry().await?);
    let raw = server.raw().await?;
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
    let name = format!("{many} registered");
    let arms = ["raw, 64 in flight", "ours, 64 in flight", "ours, all in flight", "raw"];
    figures.add_turns(&name, arms, &samples, "/s", |figure| figure);
    figures.add(Figure::median(format!("{name}: ours, all in flight: failed"), &refused, ""));
    figures.note("registered: one grant and one transaction each; rates of those that were, so more is better; beyond 5,000 that wait, etcd refuses with `too many requests`");
    Ok(figures)
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
