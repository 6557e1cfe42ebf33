//! Every test of the workspace.

use std::env;
use std::process::Command;

use anyhow::Result;

use crate::command::{execute, step, succeeds};
use crate::{images, setup};

/// The workspace with every store. Not `--all-features`: the server fixtures' `docker` would go
/// into every build.
pub(crate) const EVERYTHING: [&str; 3] = [
    "--workspace",
    "--features",
    "service-registry/etcd-tls,service-registry/redis-tls,service-registry/config,\
     service-registry/tonic,registry-testbed/tls,mall/etcd,mall/redis",
];

/// The server fixtures in containers.
const IN_DOCKER: [&str; 6] =
    ["--package", "registry-testbed", "--features", "docker", "--test", "docker"];

/// Sets up, and runs the tests and the examples in the documentation.
pub(crate) fn run(docker: bool) -> Result<()> {
    setup::run()?;
    let nextest = succeeds(cargo().args(["nextest", "--version"]));
    let runner: &[&str] = if nextest {
        step("cargo-nextest is here: the tests run with it");
        &["nextest", "run"]
    } else {
        step("cargo-nextest is not here: the tests run with cargo test");
        &["test", "--no-fail-fast"]
    };
    execute(cargo().args(runner).args(EVERYTHING))?;
    if nextest {
        execute(cargo().args(["test", "--doc", "--no-fail-fast"]).args(EVERYTHING))?;
    }
    if docker {
        images::run()?;
        execute(cargo().args(runner).args(IN_DOCKER))?;
    }
    Ok(())
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
