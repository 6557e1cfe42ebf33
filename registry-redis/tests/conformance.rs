//! The Redis store, held to the contract on a real server of its own for each scenario.
#![allow(clippy::unwrap_used)]

mod shard;
mod subject;

use std::process::ExitCode;
use subject::Topology;

fn main() -> ExitCode {
    subject::run(Topology::Standalone)
}
