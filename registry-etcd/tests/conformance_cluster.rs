//! The same on a cluster of three members of its own for each scenario, of which one is spoken to.
#![allow(clippy::unwrap_used)]

#[path = "subject/native.rs"]
mod native;
mod subject;

use native::Native;
use std::process::ExitCode;
use subject::Members;

fn main() -> ExitCode {
    subject::run::<Native>(Members::Three, "/test")
}
