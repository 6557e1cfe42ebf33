//! The conformance tests of the store, with a real server for each scenario.
#![allow(clippy::unwrap_used)]

mod shard;
mod subject;

use std::process::ExitCode;
use subject::Topology;

fn main() -> ExitCode {
    subject::run(Topology::Standalone)
}
