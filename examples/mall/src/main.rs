//! A small shop. Customers place orders with an HTTP API, which looks them up in a gRPC service that it
//! finds through the registry. Under load, one user server is killed and another one is drained.
//!
//! ```sh
//! cargo run -p mall                                                       # in one process
//! cargo run -p mall --features redis -- --processes --registry redis://127.0.0.1:6379
//! ```

mod customer;
mod listening;
mod order;
mod store;
mod story;
mod tally;
mod timeline;
mod user;
mod worker;

/// Generated from `proto/user.proto`.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, unused_qualifications)]
mod proto {
    tonic::include_proto!("mall");
}

use crate::listening::End;
use crate::store::Store;
use crate::timeline::Timeline;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A shop whose servers find each other through the registry.
///
/// Without a subcommand it runs everything: three user servers, an order API and a customer. One user
/// server is killed, and one is drained.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// URL of the registry: `mem://mall`, `etcd://127.0.0.1:2379?layout=go-zero`, `redis://127.0.0.1:6379`.
    /// `?ttl=5s` sets how long a killed server stays listed.
    // The URL may contain a password, which --help must not show.
    #[arg(long, env = "MALL_REGISTRY", hide_env_values = true)]
    #[arg(default_value = "mem://mall", global = true)]
    registry: String,
    /// Run each server as its own process. This needs a registry on a server.
    #[arg(long, env = "MALL_PROCESSES")]
    processes: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Run a gRPC server of `user.rpc`.
    User {
        /// Address to listen on, and to register.
        #[arg(long, env = "MALL_LISTEN", default_value = "127.0.0.1:0")]
        listen: String,
        /// Name of the server.
        #[arg(long, env = "MALL_NAME")]
        name: String,
    },
    /// Run the order API over HTTP.
    Order {
        /// Address to listen on, and to register.
        #[arg(long, env = "MALL_LISTEN", default_value = "127.0.0.1:0")]
        listen: String,
    },
    /// Place orders with the order API.
    Customer {
        /// URL of the order API.
        #[arg(long, env = "MALL_URL")]
        url: String,
        /// Number of orders, placed at 100 per second.
        #[arg(long, env = "MALL_CALLS", default_value_t = 1000)]
        calls: u64,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<ExitCode> {
    let store = Store::open(&args.registry)?;
    let timeline = Timeline::start();
    match args.role {
        Some(Role::User { listen, name }) => {
            user::run(&store, &listen, &name, End::BySignal).await?;
        }
        Some(Role::Order { listen }) => order::run(&store, &listen, End::BySignal).await?,
        Some(Role::Customer { url, calls }) => return customer::run(timeline, &url, calls).await,
        None => return story::run(timeline, &store, args.processes).await,
    }
    Ok(ExitCode::SUCCESS)
}
