//! A small shop. Customers place orders with an API, which asks a gRPC service who they are, and
//! finds its servers through the registry. While orders come in one server is killed and another
//! one drained.
//!
//! ```sh
//! cargo run -p mall                                                       # all in one process
//! cargo run -p mall --features redis -- --processes --registry redis://127.0.0.1:6379
//! ```

mod customer;
mod door;
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

use crate::door::End;
use crate::store::Store;
use crate::timeline::Timeline;
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A shop whose servers find each other through the registry.
///
/// Alone it runs the whole story: three user servers, an order API and a customer, while one server
/// is killed and one is drained.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The registry: `mem://mall`, `etcd://127.0.0.1:2379?layout=go-zero`, `redis://127.0.0.1:6379`;
    /// with `?ttl=5s`, how long a server that died is listed.
    // It may hold a password, which --help is not to show.
    #[arg(long, env = "MALL_REGISTRY", hide_env_values = true)]
    #[arg(default_value = "mem://mall", global = true)]
    registry: String,
    /// Run each server of the story as a process of its own. They cannot share memory.
    #[arg(long, env = "MALL_PROCESSES")]
    processes: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// A server of `user.rpc`, over gRPC.
    User {
        /// Where it listens, and is called.
        #[arg(long, env = "MALL_LISTEN", default_value = "127.0.0.1:0")]
        listen: String,
        /// What it says it is called.
        #[arg(long, env = "MALL_NAME")]
        name: String,
    },
    /// The order API, over HTTP.
    Order {
        /// Where it listens, and is called.
        #[arg(long, env = "MALL_LISTEN", default_value = "127.0.0.1:0")]
        listen: String,
    },
    /// A customer of the order API.
    Customer {
        /// Where the order API is.
        #[arg(long, env = "MALL_URL")]
        url: String,
        /// How many orders to place, a hundred a second.
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
        None => return story::tell(timeline, &store, args.processes).await,
    }
    Ok(ExitCode::SUCCESS)
}
