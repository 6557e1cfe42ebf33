//! The tests of the workspace.

use anyhow::Result;

use crate::command::{cargo, execute, step, succeeds};
use crate::{setup, tools};

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

/// Which tests to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scope {
    /// What a change is trusted by: all but [`LONG`].
    Usual,
    /// Every test, and the examples in the documentation.
    All,
}

/// Tests that take minutes and repeat, on servers, what shorter ones show.
struct Long {
    what: &'static str,
    /// Which, in nextest's language.
    tests: &'static str,
}

const LONG: [Long; 4] = [
    Long { what: "the laws on clusters of etcd and Redis", tests: "binary(conformance_cluster)" },
    Long { what: "the laws on etcd in go-zero's layout", tests: "binary(conformance_go_zero)" },
    Long {
        what: "the engine on etcd and Redis",
        tests: "package(/^registry-(etcd|redis)$/) & binary(engine)",
    },
    Long { what: "the experiments of the report", tests: "package(comparison) & binary(report)" },
];

/// Sets up, and runs the tests.
pub(crate) fn run(scope: Scope) -> Result<()> {
    setup::run()?;
    if !has_nextest() {
        step(
            "cargo-nextest is not to be had: cargo test runs every test, one binary after the other",
        );
        return execute(cargo().args(["test", "--no-fail-fast"]).args(EVERYTHING));
    }
    let mut tests = cargo();
    tests.args(["nextest", "run"]).args(EVERYTHING);
    match scope {
        Scope::Usual => {
            execute(tests.args(["-E", &usual()]))?;
            let left: Vec<&str> = LONG.iter().map(|long| long.what).collect();
            step(&format!(
                "left for cargo xtask test --all: {}, and the examples in the documentation",
                left.join("; ")
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

/// Whether the tests can run with nextest. What takes seconds to get is got.
fn has_nextest() -> bool {
    succeeds(cargo().args(["nextest", "--version"])) || tools::nextest().is_ok()
}

/// What is not long, in nextest's language.
fn usual() -> String {
    let long: Vec<String> = LONG.iter().map(|long| format!("({})", long.tests)).collect();
    format!("not ({})", long.join(" | "))
}

/// Runs the server fixtures in containers.
pub(crate) fn in_docker() -> Result<()> {
    execute(cargo().args(["nextest", "run"]).args(IN_DOCKER))
}
