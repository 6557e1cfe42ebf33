//! The time to connect, load a service and pick an instance.

use super::OUR_ARM;
use crate::arms::{Arm, Ours};
use crate::harness::fixture::view;
use crate::harness::redis_server::bare;
use crate::harness::stores::connect;
use crate::harness::{EtcdServer, Figures, RedisServer, in_turns};
use crate::workloads::{RequestGenerator, Workload};
use anyhow::{Context, Result};
use registry_core::ServiceName;
use std::hint::black_box;
use tokio::time::Instant;

const INSTANCES: usize = 10;

pub(super) async fn figures(quick: bool) -> Result<Figures> {
    let (mut figures, rounds) = (Figures::default(), if quick { 3 } else { 101 });
    let etcd = EtcdServer::start().await?;
    let raw = async || etcd.raw().await;
    Box::pin(measure(&mut figures, "etcd", etcd.etcd.url(), rounds, raw)).await?;
    figures.note(&etcd.description);
    let redis = RedisServer::start().await?;
    let raw = async || redis.raw().await;
    Box::pin(measure(&mut figures, "redis", bare(redis.redis.url()), rounds, raw)).await?;
    figures.note(&redis.description);
    figures.note(format!(
        "a service of {INSTANCES} instances; raw connects, loads and decodes; the registry also watches"
    ));
    Ok(figures)
}

/// Measures the registry at `url`, alternating with the raw client.
async fn measure<A: Arm>(
    figures: &mut Figures,
    name: &str,
    url: &str,
    rounds: usize,
    raw: impl AsyncFn() -> Result<A>,
) -> Result<()> {
    let mut generator = RequestGenerator::new(Workload::Load(INSTANCES))?;
    let _ours = generator.register(&Ours::new(connect(url).await?), INSTANCES).await?;
    let _raw = generator.register(&raw().await?, INSTANCES).await?;
    let service = &generator.service;
    let samples = in_turns(rounds, async |arm| {
        let start = Instant::now();
        if arm == OUR_ARM {
            black_box(pick(url, service).await?);
        } else {
            let loaded = raw().await?.load(service).await?;
            black_box(loaded.first().context("the service is empty")?.instance().address().clone());
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    })
    .await?;
    figures.add_turns(name, ["raw", "ours", "raw"], &samples, "ms", |figure| figure);
    Ok(())
}

/// Connects, discovers the service, and returns the address of an instance.
async fn pick(url: &str, service: &ServiceName) -> Result<registry_core::Address> {
    let view = view(connect(url).await?, service).await?;
    let state = view.state();
    Ok(state.available().next().context("the service is empty")?.address().clone())
}
