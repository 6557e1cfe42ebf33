//! The conformance tests of the etcd store in the native layout, with a real server per scenario.
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
