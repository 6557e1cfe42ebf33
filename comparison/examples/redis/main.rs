//! The figures of Redis as a store: what the registry costs over the raw client, and what it sustains.
//!
//! ```sh
//! cargo run --release -p comparison --example redis -- all            # some ten minutes
//! cargo run --release -p comparison --example redis -- calls --quick  # one of them, a few seconds
//! ```
//!
//! The server is the one in `REGISTRY_TEST_REDIS_URL`, or one started from `PATH`. Each figure stands
//! beside its target. What is counted must hold, or the process fails; what is timed is measured in
//! turns with what it is compared with, and only reported.

mod calls;
mod expiry;
mod load;
mod server;
mod twin;
mod watches;

use anyhow::Result;
use clap::{Parser, Subcommand};
use comparison::sections::{self, Section};
use comparison::workloads::record_len;
use std::process::ExitCode;

/// The figures of Redis as a store, and whether they hold.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// A few seconds for each, to see that it works: timings then say little.
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// One call at a time, beside the raw client making the same writes.
    Calls,
    /// How late an expiry is seen, beside keys with a ttl.
    Expiry,
    /// A service of 100,000 instances: loaded, held by the server, renewed.
    Load,
    /// 1,000 services watched by one process.
    Watches,
    /// All of these.
    All,
}

fn main() -> ExitCode {
    sections::exit(run(&Args::parse()))
}

/// Whether all that is counted holds.
fn run(args: &Args) -> Result<bool> {
    let all: [Section<'_>; 4] = [
        ("calls", &calls::report),
        ("expiry", &expiry::report),
        ("load", &load::report),
        ("watches", &watches::report),
    ];
    let chosen = match args.command {
        Command::Calls => 0..1,
        Command::Expiry => 1..2,
        Command::Load => 2..3,
        Command::Watches => 3..4,
        Command::All => 0..4,
    };
    println!("records of {} bytes", record_len()?);
    sections::run(&all[chosen], args.quick)
}
