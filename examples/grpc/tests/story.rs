//! Runs the example.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// The call in flight at the kill may fail, because the channel does not repeat a call that a server may have processed.
#[test]
fn at_most_the_call_in_flight_fails_when_a_server_is_killed() {
    let output = Command::new(env!("CARGO_BIN_EXE_grpc-example")).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("carol is killed"), "{told}{errors}");
    let last = told.lines().last().unwrap_or_default();
    assert!(["600 calls, 0 failed", "600 calls, 1 failed"].contains(&last), "{told}{errors}");
}
