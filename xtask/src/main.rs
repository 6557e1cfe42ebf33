//! The chores of this workspace: `cargo xtask --help`.

mod apt;
mod circles;
mod command;
mod images;
mod instructions;
mod matrix;
mod releases;
mod setup;
mod table;
mod test;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The chores of this workspace.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

/// One of them.
#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what the build and the tests need and this machine lacks.
    Setup,
    /// Set up, then run every test of the workspace.
    Test {
        /// Run the server fixtures in Docker as well.
        #[arg(long)]
        docker: bool,
    },
    /// Provide the images for the tests in Docker: pulled, or built from Debian packages.
    Images,
    /// Provide the releases of etcd that the matrix wants, side by side.
    EtcdReleases,
    /// Provide the releases of Redis and Valkey that the matrix wants, side by side.
    RedisReleases,
    /// Count the instructions of the hot paths, and fail if they are not those of the baselines.
    Instructions {
        /// Make what is counted now the baselines.
        #[arg(long)]
        accept: bool,
    },
    /// Fail if modules of a library form a circle.
    Circles {
        /// The root of another checkout of this workspace.
        #[arg(long)]
        root: Option<PathBuf>,
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

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Setup => setup::run(),
        Chore::Test { docker } => test::run(docker),
        Chore::Images => images::run(),
        Chore::EtcdReleases => releases::run(&releases::ETCD),
        Chore::RedisReleases => releases::run(&releases::REDIS),
        Chore::Instructions { accept } => instructions::run(accept),
        Chore::Circles { root } => circles::run(&root.unwrap_or_else(circles::workspace)),
        Chore::Matrix { kind, quick } => matrix::run(kind, quick),
    }
}
