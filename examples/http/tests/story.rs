//! Runs the example.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn no_request_fails_when_a_server_is_killed() {
    let output = Command::new(env!("CARGO_BIN_EXE_http-example")).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("carol is killed"), "{told}");
    assert_eq!(told.lines().last(), Some("600 requests, 0 failed"), "{told}{errors}");
    assert!(output.status.success());
}
