//! The chores of this workspace: `cargo xtask --help`.

mod api;
mod apt;
mod ci;
mod circles;
mod command;
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

/// The chores of this workspace.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// One of them.
#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the build and the tests need and this machine lacks.
    Setup {
        /// Also what CI needs: its tools, other releases of the servers, and a Docker engine.
        #[arg(long)]
        ci: bool,
    },
    /// Set up, then run the tests that a contributor needs to trust a change.
    Test {
        /// Run every test, also those that take long.
        #[arg(long)]
        all: bool,
    },
    /// Run what CI does: all lanes, or some.
    Ci { lanes: Vec<ci::Lane> },
    /// Provide the images for the tests in Docker: pulled, or built from Debian packages.
    Images,
    /// Provide the releases of etcd that the matrix and the fleet in Go want, side by side.
    EtcdReleases,
    /// Provide the releases of Redis and Valkey that the matrix wants, side by side.
    RedisReleases,
    /// Count the instructions of the hot paths, and fail if they are not those of the baselines.
    Instructions {
        /// Make what is counted now the baselines.
        #[arg(long)]
        accept: bool,
    },
    /// Have go-zero itself read configuration files and publish addresses, and fail if it is not what the tests say. It
    /// needs Go, root and network namespaces.
    GoZero {
        /// Make what is seen now what the tests say.
        #[arg(long)]
        accept: bool,
    },
    /// Fail if modules of a library form a circle.
    Circles,
    /// List the public items of the libraries, and fail if they are not those in docs/api. Needs the nightly compiler.
    Api {
        /// Write them to docs/api.
        #[arg(long)]
        accept: bool,
    },
    /// Run schedules of faults against real servers, and fail if a promise is broken: see `faults --help`.
    #[command(disable_help_flag = true)]
    Faults {
        /// Options of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run servers and callers in Go beside ours, and fail if ours are worse: see `interop --help`.
    #[command(disable_help_flag = true)]
    Interop {
        /// Options of the program.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Run the fuzz targets with inputs that libFuzzer makes up, and fail if a law is broken.
    Fuzz {
        /// The target, by default all of them.
        target: Option<String>,
        /// How many inputs, over all targets.
        #[arg(long, default_value_t = 10_000_000)]
        inputs: u64,
    },
    /// Run the tests of a store against every release of its server, by binary and in Docker.
    Matrix {
        /// The kind of server.
        #[arg(value_parser = matrix::kind)]
        kind: &'static matrix::Kind,
        /// Leave out what takes long, Docker, and the release on `PATH`, which plain tests run against.
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a backtrace: where xtask noticed is of no interest.
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
        Task::Circles => circles::run(),
        Task::Api { accept } => api::run(accept),
        Task::Faults { options } => faults::run(&options),
        Task::Interop { options } => interop::run(&options),
        Task::Fuzz { target, inputs } => fuzz::run(target.as_deref(), inputs),
        Task::Matrix { kind, quick } => matrix::run(kind, quick),
    }
}
