//! What the registry tells operators, as Prometheus scrapes it:
//!
//! ```sh
//! cargo run -p prometheus-example &
//! curl http://127.0.0.1:9184/metrics
//! ```
//!
//! What each metric means stands in the documentation of `service_registry::metrics`.

use anyhow::Result;
use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use service_registry::{
    Discovery, DiscoveryOptions, Instance, Registration, RegistrationOptions, ServiceName, connect,
};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::interval;

/// Bounds of the buckets of `registry_view_lag_batches`. Without any a histogram is rendered as
/// quantiles, which cannot be added up over processes.
const LAG: [f64; 5] = [1.0, 4.0, 16.0, 64.0, 256.0];

/// How often samples are put into buckets, whether anybody scrapes them or not.
const UPKEEP: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // The recorder comes first: what is told before there is one, nobody hears.
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("registry_view_lag_batches".into()), &LAG)?
        .install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut turns = interval(UPKEEP);
        loop {
            turns.tick().await;
            upkeep.run_upkeep();
        }
    });

    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9184".into());
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;

    let registry = connect("mem://").await?;
    let service: ServiceName = "user.rpc".parse()?;
    let discovery = Discovery::new(registry.clone(), DiscoveryOptions::default());
    let mut view = discovery.view(&service);
    view.ready(Duration::from_secs(5)).await?;
    let node = Instance::new(service, "node-1".parse()?, address.to_string().parse()?);
    let registration = Registration::start(registry, node, RegistrationOptions::default()).await?;
    view.changed().await;

    println!("metrics are at http://{address}/metrics");
    let app = Router::new().route("/metrics", get(async move || metrics.render()));
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, app).with_graceful_shutdown(interrupted).await?;
    Ok(registration.stop().await?)
}
