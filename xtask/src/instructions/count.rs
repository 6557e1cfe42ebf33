//! Runs the counts, and reads their output.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::apt;
use crate::command::{announce, cargo, execute, find, output};
use crate::folders::tools;

/// The instructions of each path, by its name.
pub(crate) type Counts = BTreeMap<String, u32>;

/// The program that runs valgrind for the benches.
const RUNNER: &str = "gungraun-runner";

/// Installs valgrind and the runner if they are missing.
pub(crate) fn provide() -> Result<()> {
    provide_valgrind()?;
    provide_runner(&tools())
}

/// Installs the missing tools, and counts.
pub(crate) fn run() -> Result<Counts> {
    provide()?;
    let mut bench = cargo();
    // With `--package`: in a build of the workspace, the tests of other packages would enable more features.
    bench
        .args(["bench", "--package", "comparison", "--features", "instructions"])
        .args(["--bench", "instructions", "--", "--output-format=json"])
        .env("GUNGRAUN_RUNNER", tools().join("bin").join(RUNNER))
        .stderr(Stdio::inherit());
    announce(&bench);
    let ran = bench.output().context("cannot run cargo")?;
    ensure!(ran.status.success(), "the benches failed, {}", ran.status);
    parse(&String::from_utf8(ran.stdout).context("the output of the benches is not UTF-8")?)
}

fn provide_valgrind() -> Result<()> {
    if find("valgrind").is_some() {
        return Ok(());
    }
    if find("apt-get").is_none() {
        bail!("valgrind is not on PATH, and there is no apt-get to install it: install valgrind");
    }
    apt::install(&["valgrind"], &[])
}

/// Installs the runner, unless it has the version of the library, which accepts no other.
fn provide_runner(tools: &Path) -> Result<()> {
    let version = library_version()?;
    let installed = output(cargo().args(["install", "--list", "--root"]).arg(tools))?;
    if installed.lines().any(|line| line == format!("{RUNNER} v{version}:")) {
        return Ok(());
    }
    // A debug build takes half the time, and valgrind takes nearly all of the runtime.
    let install = ["install", "--locked", "--debug", RUNNER, "--version", &version, "--root"];
    execute(cargo().args(install).arg(tools))
}

/// Returns the version of the library in the lock file.
fn library_version() -> Result<String> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.lock");
    let lock = fs::read_to_string(lock).context("cannot read Cargo.lock")?;
    locked(&lock, "gungraun").map(str::to_owned).context("Cargo.lock does not name gungraun")
}

fn locked<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}

/// The runner's summary of one path, without the fields that are not needed.
#[derive(Deserialize)]
struct Summary {
    function_name: String,
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    total: Total,
}

#[derive(Deserialize)]
struct Total {
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(rename = "Ir")]
    instructions: Metric,
}

#[derive(Deserialize)]
struct Metric {
    values: Values,
}

#[derive(Deserialize)]
struct Values {
    new: u32,
}

/// Parses the runner's output, which has one summary in each line.
fn parse(text: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let summary: Summary = serde_json::from_str(line)
            .with_context(|| format!("cannot parse the runner's output: {line}"))?;
        let [profile] = &summary.profiles[..] else {
            bail!("{} does not have exactly one profile", summary.function_name);
        };
        let instructions = profile.data.total.metrics.instructions.values.new;
        ensure!(instructions > 0, "{} took no instructions", summary.function_name);
        let before = counts.insert(summary.function_name.clone(), instructions);
        ensure!(before.is_none(), "{} was counted twice", summary.function_name);
    }
    ensure!(!counts.is_empty(), "the runner's output has no counts");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = "\
[[package]]
name = \"gungraun-runner\"
version = \"1.0.0\"

[[package]]
name = \"gungraun\"
version = \"2.0.0\"
";
        assert_eq!(locked(lock, "gungraun"), Some("2.0.0"));
        assert_eq!(locked(lock, "other"), None);
        assert!(library_version().unwrap().starts_with(|first: char| first.is_ascii_digit()));
    }

    fn summary(name: &str, instructions: &str) -> String {
        let metrics =
            format!(r#"{{"Ir": {{"values": {{"new": {instructions}, "old": 3}}}}, "Dr": 1}}"#);
        let profile =
            format!(r#"{{"tool": "Callgrind", "data": {{"total": {{"metrics": {metrics}}}}}}}"#);
        format!(r#"{{"function_name": "{name}", "profiles": [{profile}]}}"#)
    }

    #[test]
    fn counts_are_read_from_the_runners_summaries() {
        let text = [summary("a", "7"), summary("b", "9")].join("\n");
        let counts = parse(&text).unwrap();
        assert_eq!(counts, Counts::from([("a".to_owned(), 7), ("b".to_owned(), 9)]));
    }

    #[test]
    fn a_path_that_was_not_counted_is_an_error() {
        let twice = [summary("a", "7"), summary("a", "7")].join("\n");
        let none = r#"{"function_name": "a", "profiles": []}"#;
        for bad in ["", "{}", none, &twice, &summary("a", "0"), &summary("a", "null")] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
