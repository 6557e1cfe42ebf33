//! The figures of the balanced channel: what a call costs, what faults cost, what a change moves.
//!
//! ```sh
//! cargo run --release -p comparison --example grpc -- all           # some five minutes
//! cargo run --release -p comparison --example grpc -- calls --quick # one of them, a few seconds
//! ```
//!
//! Beside it are tonic's own channels: to one endpoint, balanced (`balance_channel`), and in turn. What is
//! counted misses its target with a failure; what is timed is only reported.

mod arms;
mod calls;
mod faults;
mod fleet;
mod schedule;
mod subset;

use self::arms::Arm;
use anyhow::Result;
use clap::{Parser, Subcommand};
use comparison::sections::{self, Section};
use std::process::ExitCode;

/// The figures of the balanced channel, and whether they hold.
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
    /// One call at a time, to three endpoints.
    Calls {
        /// Make these alone, `--iterations` times, and measure nothing: for a profiler.
        #[arg(long, requires = "iterations")]
        arm: Option<Arm>,
        /// How often.
        #[arg(long, requires = "arm")]
        iterations: Option<u32>,
    },
    /// Calls at fixed times to ten instances, of which one is killed, one drained and one slowed.
    Faults,
    /// 1,000 instances, of which a client connects to 32: connections that a change moves.
    Subset,
    /// All of these.
    All,
}

fn main() -> ExitCode {
    sections::exit(run(&Args::parse()))
}

/// Whether all that is counted holds.
fn run(args: &Args) -> Result<bool> {
    if let Command::Calls { arm: Some(arm), iterations: Some(iterations) } = args.command {
        calls::alone(arm, iterations)?;
        return Ok(true);
    }
    let all: [Section<'_>; 3] =
        [("calls", &calls::report), ("faults", &faults::report), ("subset", &subset::report)];
    let chosen = match args.command {
        Command::Calls { .. } => 0..1,
        Command::Faults => 1..2,
        Command::Subset => 2..3,
        Command::All => 0..3,
    };
    sections::run(&all[chosen], args.quick)
}
