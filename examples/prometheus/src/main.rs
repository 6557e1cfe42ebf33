//! Serves the metrics of the registry to Prometheus:
//!
//! ```sh
//! cargo run -p prometheus-example &
//! curl http://127.0.0.1:9184/metrics
//! ```
//!
//! The documentation of `service_registry::metrics` describes each metric.

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use service_registry::serve::{ServeOptions, serve};
use service_registry::{Instance, View, connect};
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{interval, timeout};

/// Buckets of `registry_view_lag_batches`. Without buckets a histogram is rendered as quantiles, which cannot be
/// aggregated over processes.
const LAG: [f64; 5] = [1.0, 4.0, 16.0, 64.0, 256.0];

/// Interval at which samples are moved into buckets, also without a scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// Limit until the instance is listed, in the memory of this process.
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // Install the recorder first: metrics from before are lost.
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full("registry_view_lag_batches".into()), &LAG)?
        .install_recorder()?;
    let upkeep = metrics.clone();
    tokio::spawn(async move {
        let mut ticks = interval(UPKEEP);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });

    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9184".into());
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;

    let client = connect("mem://").await?;
    let mut view = client.discover("user.rpc")?;
    view.ready(LIMIT).await?;
    let node = Instance::new("user.rpc", address)?;
    let app = Router::new().route("/metrics", get(async move || metrics.render()));
    // On SIGTERM or SIGINT it drains before it closes the listener.
    let mut served =
        pin!(serve(listener, &client, node, ServeOptions::default(), |listener, shutdown| {
            axum::serve(listener, app).with_graceful_shutdown(shutdown)
        }));
    tokio::select! {
        ended = &mut served => return Ok(ended?),
        seen = timeout(LIMIT, instance_listed(&mut view)) => {
            seen.with_context(|| format!("no instance was listed in time, limit=`{LIMIT:?}`"))?;
        }
    }
    println!("metrics are at http://{address}/metrics");
    Ok(served.await?)
}

async fn instance_listed(view: &mut View) {
    while view.state().records().is_empty() && view.changed().await.is_ok() {}
}
