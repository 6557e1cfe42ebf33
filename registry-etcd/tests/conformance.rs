//! The etcd store in its own layout, held to the contract on a real server of its own for each
//! scenario.
#![allow(clippy::unwrap_used)]

#[path = "subject/native.rs"]
mod native;
mod subject;

use native::Native;
use std::process::ExitCode;
use subject::Members;

fn main() -> ExitCode {
    subject::run::<Native>(Members::One, "/test")
}
