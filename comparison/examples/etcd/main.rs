//! The figures of etcd as a store: what the registry costs over the raw client, and what it sustains.
//!
//! ```sh
//! cargo run --release -p comparison --example etcd -- all            # a quarter of an hour or more
//! cargo run --release -p comparison --example etcd -- calls --quick  # one of them, a few seconds
//! ```
//!
//! The server is the one in `REGISTRY_TEST_ETCD_URL`, or one started from `PATH`. Each figure stands
//! beside its target. What is counted (requests, round trips, bytes, streams, leases) must hold, or the
//! process fails; what is timed is measured in turns with what it is compared with, and only reported.

mod calls;
mod cost;
mod crash;
mod leases;
mod load;
mod own_records;
mod registrant;
mod relay;
mod server;
mod twin;
mod watches;

use self::registrant::Registrant;
use anyhow::Result;
use clap::{Parser, Subcommand};
use comparison::sections::{self, Section};
use comparison::workloads::record_len;
use std::process::ExitCode;

/// The figures of etcd as a store, and whether they hold.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// A few seconds for each, to see that it works: timings then say little.
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Subcommand)]
enum Command {
    /// One call at a time, beside the raw client making the same requests.
    Calls {
        /// Only those whose names begin so.
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// 10,000 watches of one process.
    Watches,
    /// A service of 100,000 instances, loaded.
    Load,
    /// 100,000 leases kept alive by one process, and 10,000 registrations at once.
    Leases,
    /// 1,000 instances whose process is killed.
    Crash,
    /// Records that are deleted behind their registrations' backs, and 100,000 watched records.
    OwnRecords,
    /// All of these.
    All,
    /// The process that `crash` kills.
    #[command(hide = true)]
    Registrant(Registrant),
}

fn main() -> ExitCode {
    sections::exit(run(&Args::parse()))
}

/// Whether all that is counted holds.
fn run(args: &Args) -> Result<bool> {
    if let Command::Registrant(registrant) = &args.command {
        registrant.run()?;
        return Ok(true);
    }
    let only = match &args.command {
        Command::Calls { only: Some(only) } => only,
        _ => "",
    };
    let all: [Section<'_>; 6] = [
        ("calls", &|quick| calls::report(quick, only)),
        ("watches", &watches::report),
        ("load", &load::report),
        ("leases", &leases::report),
        ("crash", &crash::report),
        ("own records", &own_records::report),
    ];
    let chosen = match args.command {
        Command::Calls { .. } => 0..1,
        Command::Watches => 1..2,
        Command::Load => 2..3,
        Command::Leases => 3..4,
        Command::Crash => 4..5,
        Command::OwnRecords => 5..6,
        Command::All | Command::Registrant(_) => 0..6,
    };
    println!("records of {} bytes", record_len()?);
    sections::run(&all[chosen], args.quick)
}
