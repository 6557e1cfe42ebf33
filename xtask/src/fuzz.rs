//! The fuzz targets in `fuzz/`, run by cargo-fuzz with the nightly compiler.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{execute, step, succeeds, with_tools};
use crate::folders::{target, workspace};
use crate::tools;

/// The toolchain. cargo-fuzz needs unstable options of the compiler.
const TOOLCHAIN: &str = "nightly";

/// Runs one target, or all of them, with `inputs` in total. The last line of the output has the number of inputs run.
pub(crate) fn run(only: Option<&str>, inputs: u64) -> Result<()> {
    ensure!(
        succeeds(Command::new("rustup").args(["run", TOOLCHAIN, "rustc", "--version"])),
        "the nightly compiler is missing: rustup toolchain install {TOOLCHAIN} --profile minimal"
    );
    tools::fuzz()?;
    let targets = chosen(all()?, only)?;
    execute(cargo_fuzz("build").args(only))?;
    let inputs_per_target = inputs.div_ceil(targets.len() as u64);
    let (mut total, mut panics) = (0, 0);
    for (n, name) in targets.iter().enumerate() {
        step(&format!("{name}, {} of {}: {inputs_per_target} inputs", n + 1, targets.len()));
        let start = Instant::now();
        match run_target(name, inputs_per_target)? {
            Outcome::Kept(inputs) => {
                total += inputs;
                println!("{name}: {inputs} inputs, 0 panics, {} s", start.elapsed().as_secs());
            }
            Outcome::Broken { inputs, log } => {
                total += inputs;
                panics += 1;
                println!("{log}");
            }
        }
    }
    println!("{total} inputs, {panics} panics");
    ensure!(
        panics == 0,
        "laws are violated: `cargo xtask fuzz TARGET` starts with the failing input"
    );
    Ok(())
}

/// The outcome of a run, with the number of inputs.
#[derive(Debug, PartialEq)]
enum Outcome {
    Kept(u64),
    /// An input violated the law. The log has the input.
    Broken {
        inputs: u64,
        log: String,
    },
}

/// Runs a target with its corpus and the inputs that earlier runs found, which are in `target`.
fn run_target(name: &str, inputs: u64) -> Result<Outcome> {
    let found = target().join("fuzz-corpus").join(name);
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    let mut run = cargo_fuzz("run");
    run.arg(name).arg(&found).arg(corpus(name)).arg("--");
    run.args([&format!("-runs={inputs}"), "-verbosity=0", "-print_final_stats=1", "-timeout=600"]);
    let ended = run.output().with_context(|| format!("cannot run {name}"))?;
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    Ok(match (ended.status.success(), executed(&log)) {
        (true, Some(inputs)) => Outcome::Kept(inputs),
        (true, None) => bail!("the log of {name} has no number of inputs: {log}"),
        (false, inputs) => Outcome::Broken { inputs: inputs.unwrap_or_default(), log },
    })
}

/// Returns the number of inputs in a log of libFuzzer.
fn executed(log: &str) -> Option<u64> {
    let count = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    count?.trim().parse().ok()
}

/// Returns the targets, by their files.
fn all() -> Result<Vec<String>> {
    let folder = workspace().join("fuzz/fuzz_targets");
    let files =
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = files.filter_map(|file| {
        let path = file.ok()?.path();
        Some(path.file_stem()?.to_str()?.to_owned())
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

fn chosen(all: Vec<String>, only: Option<&str>) -> Result<Vec<String>> {
    let Some(only) = only else { return Ok(all) };
    ensure!(
        all.iter().any(|name| name == only),
        "unknown target {only}: use one of {}",
        all.join(", ")
    );
    Ok(vec![only.to_owned()])
}

fn corpus(name: &str) -> PathBuf {
    workspace().join("fuzz/corpus").join(name)
}

/// Returns a command of cargo-fuzz with the nightly toolchain.
fn cargo_fuzz(verb: &str) -> Command {
    let mut command = with_tools(Command::new("cargo"));
    command.env("RUSTUP_TOOLCHAIN", TOOLCHAIN).env_remove("CARGO").env_remove("RUSTC");
    // The workspace has no unsafe code, so a sanitizer would only cost time.
    command.current_dir(workspace()).args(["fuzz", verb, "--sanitizer", "none", "--target-dir"]);
    command.arg(target().join("fuzz"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_of_inputs_is_read_from_the_log() {
        let log = "INFO: Seed: 1\nstat::number_of_executed_units: 500000\nstat::peak_rss_mb:  60\n";
        assert_eq!(executed(log), Some(500_000));
        assert_eq!(executed("INFO: Seed: 1\n"), None);
    }

    #[test]
    fn each_target_has_a_corpus_of_at_most_40_files() {
        let targets = all().unwrap();
        for name in &targets {
            let count = fs::read_dir(corpus(name)).unwrap().count();
            assert!((1..=40).contains(&count), "{name} has {count}");
        }
        assert!(chosen(targets, Some("nothing")).is_err());
        let corpora = fs::read_dir(workspace().join("fuzz/corpus")).unwrap().count();
        assert_eq!(corpora, all().unwrap().len(), "a corpus has no target");
    }
}
