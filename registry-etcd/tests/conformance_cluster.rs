//! The conformance tests of the etcd store on a cluster of three members per scenario, over one of the members.
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
