//! Interoperability with Go: servers and callers in Go and Rust run the same schedules at the same time.
//!
//! ```sh
//! cargo xtask interop --quick
//! cargo xtask interop --schedule kill,drain --etcd 3.4 --members 1
//! ```
//!
//! The Go programs are in `interop/go`. See `--help`.

mod config;
mod desk;
mod driver;
mod event;
mod exceptions;
mod figures;
mod fleet;
mod keys;
mod operator;
mod options;
mod participant;
mod plan;
mod program;
mod report;
mod schedule;
mod schedules;
mod spec;
mod stage;
mod store;
mod table;

use self::options::{Command, Options};
use anyhow::Result;
use clap::Parser;
use std::process::ExitCode;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match &options.command {
            Some(Command::Server { config }) => {
                participant::end_with_driver();
                participant::server(config).await.map(|()| true)
            }
            Some(Command::Caller { config }) => {
                participant::end_with_driver();
                participant::caller(config).await.map(|()| true)
            }
            None => driver::run(options).await,
        }
    })
}
