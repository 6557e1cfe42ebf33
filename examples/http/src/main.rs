//! HTTP requests that are balanced over three servers. One is killed, and no request fails.
//!
//! ```sh
//! cargo run -p http-example
//! cargo run -p http-example --features etcd -- etcd://127.0.0.1:2379
//! ```

mod caller;
mod server;

use crate::caller::Users;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use service_registry::Client;
use std::time::Duration;
use tokio::time::{interval, timeout};

/// How long a killed server stays listed.
const TTL: Duration = Duration::from_secs(2);

/// Number of requests, and the time between them.
const REQUESTS: u32 = 600;
const INTERVAL: Duration = Duration::from_millis(5);

/// The server is killed before this request.
const KILLED_AT: u32 = 200;

/// Limit for the start of the servers.
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mem://shop".into());
    let client = Client::builder(&url).ttl(TTL).connect().await?;
    let view = client.discover("user")?;
    view.ready(LIMIT).await?;

    let [alice, bob, carol] =
        ["alice", "bob", "carol"].map(|name| Server::start(&url, name).context(name));
    let (alice, bob, mut carol) = (alice?, bob?, Some(carol?));
    let all_are_available = view.wait_for(|state| state.available().count() == 3);
    timeout(LIMIT, all_are_available)
        .await
        .context("not all servers were registered in time")??;

    let users = Users::new(view);
    let (mut ticks, mut repeated, mut failed) = (interval(INTERVAL), 0, 0);
    for n in 0..REQUESTS {
        ticks.tick().await;
        if let Some(carol) = carol.take_if(|_| n == KILLED_AT) {
            carol.kill();
            println!("carol is killed after {n} requests");
        }
        match users.get("/users/7").await {
            Ok((answer, attempts)) => {
                ensure!(answer.starts_with("user 7"), "unexpected answer: {answer}");
                repeated += attempts;
            }
            Err(error) => {
                failed += 1;
                eprintln!("a request failed: {error:#}");
            }
        }
    }
    alice.stop().await?;
    bob.stop().await?;
    println!("{repeated} attempts failed and were retried on another server");
    println!("{REQUESTS} requests, {failed} failed");
    ensure!(failed == 0, "requests failed");
    Ok(())
}
