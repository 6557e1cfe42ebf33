//! The tests of the workspace.

use anyhow::Result;

use crate::command::{cargo, execute, step, succeeds};
use crate::folders::workspace;
use crate::{packages, setup};

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

/// Tests that take minutes.
struct Long {
    what: &'static str,
    package: &'static str,
    /// The file in `tests`.
    binary: &'static str,
}

const LONG: [Long; 1] = [Long { what: "", package: "comparison", binary: "report" }];

/// Sets up, and runs the tests.
pub(crate) fn run(scope: Scope) -> Result<()> {
    setup::run()?;
    let nextest = succeeds(cargo().args(["nextest", "--version"]));
    if nextest {
        step("cargo-nextest is here: the tests run with it");
        let mut tests = cargo();
        tests.args(["nextest", "run"]).args(EVERYTHING);
        if scope == Scope::Usual {
            tests.args(["-E", &usual()]);
        }
        execute(&mut tests)?;
    } else {
        step("cargo-nextest is not here: the tests run with cargo test");
        let mut tests = cargo();
        tests.args(["test", "--no-fail-fast"]).args(EVERYTHING);
        if scope == Scope::Usual {
            tests.args(["--lib", "--bins"]).args(usual_binaries()?);
        }
        execute(&mut tests)?;
    }
    match scope {
        // Without nextest they have run already.
        Scope::All if nextest => {
            execute(cargo().args(["test", "--doc", "--no-fail-fast"]).args(EVERYTHING))
        }
        Scope::All => Ok(()),
        Scope::Usual => {
            let left: Vec<&str> = LONG.iter().map(|long| long.what).collect();
            step(&format!("left for cargo xtask test --all: {}", left.join(", ")));
            Ok(())
        }
    }
}

/// Runs the server fixtures in containers.
pub(crate) fn in_docker() -> Result<()> {
    execute(cargo().args(["nextest", "run"]).args(IN_DOCKER))
}

/// What is not long, in nextest's language.
fn usual() -> String {
    let long =
        LONG.iter().map(|long| format!("package({}) & binary({})", long.package, long.binary));
    format!("not ({})", long.collect::<Vec<_>>().join(" | "))
}

/// What is not long, for cargo test, which knows the names of binaries only.
fn usual_binaries() -> Result<Vec<String>> {
    let mut binaries = Vec::new();
    for package in packages::all(&workspace())? {
        let is_long = |binary: &&str| {
            LONG.iter().any(|long| long.package == package.name && long.binary == *binary)
        };
        binaries.extend(
            package
                .tests()
                .filter(|binary| !is_long(binary))
                .flat_map(|binary| ["--test".to_owned(), binary.to_owned()]),
        );
    }
    Ok(binaries)
}
