//! The tests of the workspace.

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::Result;

use crate::command::{cargo, execute, step, succeeds};
use crate::{setup, tools};

/// The arguments that select the workspace with every store. Not `--all-features`, which would include the server
/// fixtures' `docker` in every build.
pub(crate) const EVERYTHING: [&str; 3] = [
    "--workspace",
    "--features",
    "service-registry/etcd,service-registry/redis,service-registry/tls,service-registry/grpc,\
     service-registry/go-zero,registry-testbed/tls,mall/etcd,mall/redis",
];

/// The environment variable of `registry_testkit::lag` with the file that lists invalid runs.
const INVALID_RUNS: &str = "REGISTRY_TEST_INVALID_RUNS";

/// The server fixtures in containers.
const IN_DOCKER: [&str; 6] =
    ["--package", "registry-testbed", "--features", "docker", "--test", "docker"];

/// The tests to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scope {
    /// The tests that a contributor needs to trust a change: all except [`LONG`].
    Usual,
    /// Every test, and the examples in the documentation.
    All,
}

/// Tests that take minutes. They run on more servers what shorter tests cover.
struct Long {
    what: &'static str,
    /// A filter expression of nextest.
    tests: &'static str,
}

const LONG: [Long; 4] = [
    Long { what: "the laws on clusters of etcd and Redis", tests: "binary(conformance_cluster)" },
    Long {
        what: "the laws on etcd in the layouts of go-zero, Kratos and Kitex",
        tests: "binary(/^conformance_(go_zero|kratos|kitex)$/)",
    },
    Long {
        what: "the engine on etcd and Redis",
        tests: "package(/^registry-(etcd|redis)$/) & binary(engine)",
    },
    Long { what: "the experiments of the report", tests: "package(comparison) & binary(report)" },
];

/// Sets up, and runs the tests. They append their invalid runs to the file `invalid_runs`.
pub(crate) fn run(scope: Scope, invalid_runs: Option<&Path>) -> Result<()> {
    setup::run()?;
    if !has_nextest() {
        step("cargo-nextest is missing: running every test with cargo test, which takes longer");
        return execute(cargo().args(["test", "--no-fail-fast"]).args(EVERYTHING));
    }
    let mut tests = nextest_run();
    tests.args(EVERYTHING);
    if let Some(list) = invalid_runs {
        tests.env(INVALID_RUNS, list);
    }
    match scope {
        Scope::Usual => {
            execute(tests.args(["-E", &usual()]))?;
            let omitted: Vec<&str> = LONG.iter().map(|long| long.what).collect();
            step(&format!(
                "not run: {}, and the examples in the documentation; cargo xtask test --all runs them",
                omitted.join("; ")
            ));
            Ok(())
        }
        Scope::All => {
            let tests = execute(&mut tests);
            execute(cargo().args(["test", "--doc", "--no-fail-fast"]).args(EVERYTHING))?;
            tests
        }
    }
}

/// Returns a command that runs tests, two for each core: most of the time a test waits for a server or an expiry.
pub(crate) fn nextest_run() -> Command {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let mut nextest = cargo();
    nextest.args(["nextest", "run", &format!("--test-threads={}", 2 * cores)]);
    nextest
}

/// Returns whether nextest is available. Tries to install its wheel if it is missing.
fn has_nextest() -> bool {
    succeeds(cargo().args(["nextest", "--version"])) || tools::nextest().is_ok()
}

/// Returns the filter expression for all tests except the long ones.
fn usual() -> String {
    let long: Vec<String> = LONG.iter().map(|long| format!("({})", long.tests)).collect();
    format!("not ({})", long.join(" | "))
}

/// Runs the server fixtures in containers.
pub(crate) fn in_docker() -> Result<()> {
    execute(nextest_run().args(IN_DOCKER))
}
