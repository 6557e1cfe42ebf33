//! Compares this library with go-zero itself: how both read configuration files, and which address both publish.

mod machines;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{cargo, execute, output, step};
use crate::folders::workspace;
use crate::interop;

/// The files that the program in Go reads.
const FILES: &str = "tests/go_zero_conf/files";

/// The committed results: what go-zero reads from the files, and what it publishes on the machines.
const UNDERSTOOD: &str = "tests/go_zero_conf/files/understood.json";
const PUBLISHED: &str = "src/advertise/published.json";

/// Compares the results with the committed ones, or with `accept` writes them. Then runs the tests that use them.
pub(crate) fn run(accept: bool) -> Result<()> {
    let program = interop::build()?;
    let tests = || {
        let mut tests = cargo();
        tests.args(["test", "--package", "service-registry", "--features", "go-zero,grpc"]);
        tests
    };
    if accept {
        let cases = "generated_cases_are_those_that_go_zero_has_read";
        execute(tests().args(["--test", "go_zero_conf", cases]).env("REGISTRY_TEST_ACCEPT", "1"))?;
    }
    step("go-zero reads configuration files");
    let understood = output(Command::new(&program).arg("conf").arg(workspace().join(FILES)))?;
    compare(UNDERSTOOD, &understood, accept)?;
    step("servers of go-zero publish an address");
    let published = machines::run(&program)?;
    compare(PUBLISHED, &published, accept)?;
    execute(tests().args(["--test", "go_zero_conf"]))?;
    let mut tests = cargo();
    execute(tests.args([
        "test",
        "--package",
        "service-registry",
        "--features",
        "serve",
        "--lib",
        "advertise",
    ]))
}

/// Compares a committed file with the new result, or with `accept` writes it.
fn compare(file: &str, seen: &str, accept: bool) -> Result<()> {
    let path: &Path = &workspace().join(file);
    let seen = format!("{seen}\n");
    if accept {
        return fs::write(path, seen).with_context(|| format!("cannot write {file}"));
    }
    let committed = fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    let (committed, seen): (Vec<_>, Vec<_>) = (committed.lines().collect(), seen.lines().collect());
    let changed = |one: &[&str], two: &[&str], mark: &str| {
        for line in one.iter().filter(|line| !two.contains(line)) {
            println!("{mark} {line}");
        }
    };
    changed(&committed, &seen, "-");
    changed(&seen, &committed, "+");
    if committed != seen {
        bail!(
            "go-zero's result differs from {file}: check the lines above, then run `cargo xtask go-zero --accept`"
        );
    }
    println!("{file}: {} lines, as committed", seen.len());
    Ok(())
}
