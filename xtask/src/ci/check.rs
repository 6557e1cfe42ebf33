//! Checks that need no server.

use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::directions;
use super::report::Steps;
use crate::api;
use crate::command::{cargo, execute, step, succeeds, tool};
use crate::cycles;
use crate::folders::workspace;

/// The features of clippy and the documentation, which thereby share the builds of dependencies.
const FEATURES: &str = "service-registry/etcd,service-registry/redis,service-registry/tls,\
    service-registry/grpc,service-registry/go-zero,service-registry/axum,service-registry/http,mall/etcd,mall/redis,\
    registry-testbed/docker,registry-testbed/tls,comparison/instructions,comparison/heap";

/// Features of the facade that are used together.
const GROUPS: [&str; 5] = ["etcd,tls", "redis,tls", "grpc,go-zero", "mem,etcd,redis", "http,axum"];

/// Examples that must build alone, without features that other packages enable.
const EXAMPLES: [&str; 4] = ["grpc-example", "http-example", "mall", "prometheus-example"];

/// Runs all steps, the fast ones first.
pub(super) fn run(steps: &mut Steps) {
    steps.run("format", || execute(cargo().args(["fmt", "--all", "--check"])));
    steps.run("ASCII", ascii);
    steps.run("spelling", || execute(tool("typos").current_dir(workspace())));
    steps.run("README", readme);
    steps.run("directions of dependencies", directions::run);
    steps.run("cycles between files", cycles::run);
    if api::can_run() {
        steps.run("public items", || api::run(false));
    } else {
        step("public items are not compared, since the nightly compiler is missing");
    }
    steps.run("licences and sources", || deny(&["licenses", "bans", "sources"]));
    advisories(steps);
    steps.run("clippy", clippy);
    steps.run("documentation", documentation);
    steps.run("feature sets", feature_sets);
}

/// Checks that sources are ASCII, so that different characters never look alike.
fn ascii() -> Result<()> {
    let mut grep = std::process::Command::new("git");
    grep.args(["grep", "-nP", "[^\\x00-\\x7F]", "--", "*.rs", "*.lua", "*.toml"]);
    let status = grep.current_dir(workspace()).status().context("cannot run git")?;
    match status.code() {
        Some(1) => Ok(()),
        Some(0) => bail!("the lines above are not ASCII"),
        _ => bail!("git grep failed, {status}"),
    }
}

/// Checks that the README has the commands that CI runs.
fn readme() -> Result<()> {
    let readme =
        fs::read_to_string(workspace().join("README.md")).context("cannot read README.md")?;
    for command in ["cargo xtask test", "cargo xtask test --all"] {
        let is_command =
            |line: &str| line.split(" #").next().is_some_and(|code| code.trim() == command);
        ensure!(
            readme.lines().any(is_command),
            "README.md has no line with the command `{command}`"
        );
    }
    Ok(())
}

fn deny(checks: &[&str]) -> Result<()> {
    let options = ["deny", "--workspace", "check", "--hide-inclusion-graph"];
    execute(cargo().args(options).args(checks))
}

/// Checks the advisories. A machine that can only reach package registries cannot fetch their database.
fn advisories(steps: &mut Steps) {
    if succeeds(cargo().args(["deny", "fetch", "db"])) {
        steps.run("advisories", || deny(&["advisories"]));
    } else {
        steps.note("not checked: advisories, since their database cannot be fetched here");
    }
}

fn clippy() -> Result<()> {
    let warnings = ["--", "-D", "warnings"];
    let everything = ["clippy", "--workspace", "--all-targets", "--features", FEATURES];
    execute(cargo().args(everything).args(warnings))
}

fn documentation() -> Result<()> {
    let everything = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    let mut doc = cargo();
    doc.args(everything).args(["--features", FEATURES]).env("RUSTDOCFLAGS", "-D warnings");
    execute(&mut doc)
}

/// Checks that the facade builds with each of its features, with none and with all, and that each example builds alone.
fn feature_sets() -> Result<()> {
    let hack = ["hack", "check", "--quiet", "--package", "service-registry"];
    execute(cargo().args(hack).arg("--each-feature"))?;
    for group in GROUPS {
        let features = ["--no-default-features", "--features", group];
        execute(
            cargo().args(["check", "--quiet", "--package", "service-registry"]).args(features),
        )?;
    }
    for example in EXAMPLES {
        execute(cargo().args(["check", "--quiet", "--package", example]))?;
    }
    Ok(())
}
