//! The figures of the engine: what a pick, a change, a registration and an instance cost.
//!
//! ```sh
//! cargo run --release -p comparison --example engine -- all           # some five minutes
//! cargo run --release -p comparison --example engine -- pick --quick  # one of them, a few seconds
//! ```
//!
//! Each figure stands beside its target. What is counted (instructions, allocations, bytes, changes)
//! is the same on every machine: if it misses its target, so does the process, by its exit status. What
//! is timed is measured in turns with what it is compared with, and only reported.

mod backlog;
mod callgrind;
mod contention;
mod fanout;
mod fixture;
mod heap;
mod load;
mod memory;
mod pick;
mod registrations;
mod traffic;

use self::pick::Arm;
use anyhow::Result;
use clap::{Parser, Subcommand};
use comparison::sections::{self, Section};
use std::process::ExitCode;

/// The figures of the engine, and whether they hold.
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
    /// One of 100 instances, through a handle.
    Pick {
        /// Run this one alone, `--iterations` times, and measure nothing: for callgrind.
        #[arg(long, requires = "iterations")]
        arm: Option<Arm>,
        /// How often.
        #[arg(long, requires = "arm")]
        iterations: Option<u64>,
    },
    /// One change, to 10,000 subscribers.
    Fanout,
    /// 100,000 registrations, kept alive.
    Registrations,
    /// 100,000 instances, held by views.
    Memory,
    /// 10,000 changes a second, to 1,000 services of ten subscribers, some of which are stuck.
    Load,
    /// All of these.
    All,
}

fn main() -> ExitCode {
    sections::exit(run(&Args::parse()))
}

/// Whether all that is counted holds.
fn run(args: &Args) -> Result<bool> {
    if let Command::Pick { arm: Some(arm), iterations: Some(iterations) } = args.command {
        pick::alone(arm, iterations)?;
        return Ok(true);
    }
    let all: [Section<'_>; 5] = [
        ("pick", &pick::report),
        ("fanout", &fanout::report),
        ("registrations", &registrations::report),
        ("memory", &memory::report),
        ("load", &load::report),
    ];
    let chosen = match args.command {
        Command::Pick { .. } => 0..1,
        Command::Fanout => 1..2,
        Command::Registrations => 2..3,
        Command::Memory => 3..4,
        Command::Load => 4..5,
        Command::All => 0..5,
    };
    sections::run(&all[chosen], args.quick)
}
