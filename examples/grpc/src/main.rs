//! gRPC calls that are balanced over three servers. One is killed, and the calls go to the others.
//!
//! ```sh
//! cargo run -p grpc-example
//! cargo run -p grpc-example --features etcd -- etcd://127.0.0.1:2379
//! ```
//!
//! The servers offer the health service of gRPC, so that there are no protos to compile.

mod server;

use crate::server::Server;
use anyhow::{Context, Result, ensure};
use service_registry::Client;
use service_registry::grpc::{ChannelOptions, channel};
use std::time::Duration;
use tokio::time::{interval, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// The name of the service.
const SERVICE: &str = "user.rpc";

/// How long a killed server stays listed.
const TTL: Duration = Duration::from_secs(2);

/// Number of calls, and the time between them.
const CALLS: u32 = 600;
const INTERVAL: Duration = Duration::from_millis(5);

/// The server is killed before this call.
const KILLED_AT: u32 = 200;

/// Limit for the start of the servers.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mem://shop".into());
    let client = Client::builder(&url).ttl(TTL).connect().await?;
    let view = client.discover(SERVICE)?;
    view.ready(LIMIT).await?;

    let [alice, bob, carol] =
        ["alice", "bob", "carol"].map(|name| Server::start(&url, name).context(name));
    let (alice, bob, mut carol) = (alice?, bob?, Some(carol?));
    let all_are_available = view.wait_for(|state| state.available().count() == 3);
    timeout(LIMIT, all_are_available)
        .await
        .context("not all servers were registered in time")??;

    // The channel balances calls over the view. Every generated client works over it.
    let users = HealthClient::new(channel(&view, ChannelOptions::default()));
    let (mut ticks, mut failed) = (interval(INTERVAL), 0);
    for n in 0..CALLS {
        ticks.tick().await;
        if let Some(carol) = carol.take_if(|_| n == KILLED_AT) {
            carol.kill();
            println!("carol is killed after {n} calls");
        }
        if let Err(status) = users.clone().check(HealthCheckRequest::default()).await {
            failed += 1;
            eprintln!("a call failed: {status}");
        }
    }
    alice.stop().await?;
    bob.stop().await?;
    println!("{CALLS} calls, {failed} failed");
    ensure!(failed == 0, "calls failed");
    Ok(())
}
