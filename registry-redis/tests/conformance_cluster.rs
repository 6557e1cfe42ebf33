//! The same on a Cluster of six nodes of its own for each scenario.
#![allow(clippy::unwrap_used)]

mod shard;
mod subject;

use std::process::ExitCode;
use subject::Topology;

fn main() -> ExitCode {
    subject::run(Topology::Cluster)
}
