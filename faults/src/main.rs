//! Runs schedules of faults against real servers.
//!
//! ```sh
//! cargo xtask faults --quick
//! cargo xtask faults --schedule A1,A2 --store etcd --ttl 2s,5s --repeats 5
//! ```
//!
//! Each run is a process with its own servers, so that its scheduling lag is measured alone. See `--help`.

mod bounds;
mod cell;
mod listing;
mod log;
mod neighbours;
mod operator;
mod options;
mod owner;
mod plan;
mod program;
mod progress;
mod report;
mod schedule;
mod schedules;
mod servers;
mod side_runtime;
mod stage;
mod table;
mod tap;
mod topology;

use self::cell::RunSpec;
use self::options::{Command, Options};
use anyhow::{Context, Result};
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Builder;

/// The number of threads for the owners, views and proxies of a run.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match &options.command {
        Some(Command::One { spec }) => execute(spec).map(|()| true),
        None => program::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Executes one run, and prints its report as the last line.
fn execute(spec: &str) -> Result<()> {
    let spec: RunSpec =
        serde_json::from_str(spec).context("invalid run: pass a `spec` from runs.jsonl")?;
    log::start();
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let report = runtime.block_on(async { tokio::spawn(schedules::run(spec)).await });
    let report = report.unwrap_or_else(|error| report::Report::invalid(format!("{error:#}")));
    // Otherwise the remaining tasks would try to withdraw instances from servers that are stopped.
    runtime.shutdown_timeout(Duration::from_millis(1));
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
