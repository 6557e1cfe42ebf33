//! gRPC calls that go where a service is: one of three servers is killed, and the calls go to the others.
//!
//! ```sh
//! cargo run -p grpc-example
//! cargo run -p grpc-example --features etcd -- etcd://127.0.0.1:2379
//! ```
//!
//! The service is gRPC's own health service, so that there are no protos to compile.

mod server;

use crate::server::Server;
use anyhow::{Context, Result, ensure};
use service_registry::Client;
use service_registry::grpc::{ChannelOptions, channel};
use std::time::Duration;
use tokio::time::{interval, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// The name that the servers are found under.
const SERVICE: &str = "user.rpc";

/// How long a server that died is listed.
const TTL: Duration = Duration::from_secs(2);

/// How many calls are made, and how often.
const CALLS: u32 = 600;
const INTERVAL: Duration = Duration::from_millis(5);

/// The call before which a server is killed.
const KILLED_AT: u32 = 200;

/// How long it may take until all servers are listed.
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
    timeout(LIMIT, all_are_available).await.context("not all were registered")??;

    // Any generated client works over the channel, which balances the calls over the view.
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
