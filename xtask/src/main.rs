//! The development tasks of this workspace: `cargo xtask --help`.

mod api;
mod apt;
mod ci;
mod command;
mod cycles;
mod docker;
mod faults;
mod folders;
mod fuzz;
mod go;
mod go_zero;
mod images;
mod instructions;
mod interop;
mod matrix;
mod packages;
mod releases;
mod setup;
mod table;
mod test;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use self::test::Scope;

/// The development tasks of this workspace.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// A development task.
#[derive(Debug, Subcommand)]
enum Task {
    /// Install the missing packages that the build and the tests need.
    Setup {
        /// Also install what CI needs: its tools, other releases of the servers, and a Docker engine.
        #[arg(long)]
        ci: bool,
    },
    /// Set up, then run the tests that a contributor needs to trust a change.
    Test {
        /// Run every test, including the slow ones, and the examples in the documentation.
        #[arg(long)]
        all: bool,
    },
    /// Run the lanes of CI, or only those named.
    Ci { lanes: Vec<ci::Lane> },
    /// Provide the images for the tests in Docker: pulled, or built from Debian packages.
    Images,
    /// Provide the releases of etcd for the matrix and for `interop`, side by side.
    EtcdReleases,
    /// Provide the releases of Redis and Valkey for the matrix, side by side.
    RedisReleases,
    /// Count the instructions of the hot paths, and fail if a count differs from its baseline.
    Instructions {
        /// Write the counts as the new baselines.
        #[arg(long)]
        accept: bool,
    },
    /// Let go-zero itself read configuration files and publish addresses, and fail if the results differ from the
    /// committed ones. Needs Go, root and network namespaces.
    GoZero {
        /// Write the results as the new committed ones.
        #[arg(long)]
        accept: bool,
    },
    /// Fail if files of a library depend on each other in a cycle.
    Cycles,
    /// List the public items of the libraries, and fail if they differ from docs/api. Needs the nightly compiler.
    Api {
        /// Write the items to docs/api.
        #[arg(long)]
        accept: bool,
    },
    /// Run schedules of faults against real servers, and fail if a guarantee is violated: see `faults --help`.
    #[command(disable_help_flag = true)]
    Faults {
        /// Options of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Compare servers and callers of this library with those in Go, and fail if ours do worse: see `interop --help`.
    #[command(disable_help_flag = true)]
    Interop {
        /// Options of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run the fuzz targets with inputs from libFuzzer, and fail if a law is violated. Needs the nightly compiler.
    Fuzz {
        /// The target. Default: all targets.
        target: Option<String>,
        /// The number of inputs, over all targets.
        #[arg(long, default_value_t = 10_000_000)]
        inputs: u64,
    },
    /// Run the tests of a store against every release of its server, from binaries and in Docker.
    Matrix {
        /// The kind of server.
        #[arg(value_parser = matrix::kind)]
        kind: &'static matrix::Kind,
        /// Skip slow tests, Docker, and the release on `PATH`, which `cargo xtask test` covers.
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace, since the place in xtask does not matter.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup { ci: false } => setup::run(),
        Task::Setup { ci: true } => ci::setup(),
        Task::Test { all } => test::run(if all { Scope::All } else { Scope::Usual }, None),
        Task::Ci { lanes } => ci::run(&lanes),
        Task::Images => images::run(),
        Task::EtcdReleases => releases::run(&releases::ETCD),
        Task::RedisReleases => releases::run(&releases::REDIS),
        Task::Instructions { accept } => instructions::run(accept),
        Task::GoZero { accept } => go_zero::run(accept),
        Task::Cycles => cycles::run(),
        Task::Api { accept } => api::run(accept),
        Task::Faults { options } => faults::run(&options),
        Task::Interop { options } => interop::run(&options),
        Task::Fuzz { target, inputs } => fuzz::run(target.as_deref(), inputs),
        Task::Matrix { kind, quick } => matrix::run(kind, quick),
    }
}
