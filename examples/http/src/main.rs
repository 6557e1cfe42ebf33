//! Requests over HTTP that go where a service is: one of three servers is killed, and no request fails.
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

/// How long a server that died is listed.
const TTL: Duration = Duration::from_secs(2);

/// How many requests are made, and how often.
const REQUESTS: u32 = 600;
const INTERVAL: Duration = Duration::from_millis(5);

/// The request before which a server is killed.
const KILLED_AT: u32 = 200;

/// How long it may take until all servers are listed.
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
    timeout(LIMIT, all_are_available).await.context("not all were registered")??;

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
                ensure!(answer.starts_with("user 7"), "not the answer: {answer}");
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
    println!("{repeated} attempts failed and were made again elsewhere");
    println!("{REQUESTS} requests, {failed} failed");
    ensure!(failed == 0, "requests failed");
    Ok(())
}
