//! Executes all runs, several concurrently, each in its own process.

use crate::cell::RunSpec;
use crate::options::Options;
use crate::plan::{estimate, plan};
use crate::progress::{Progress, verdict};
use crate::report::{Report, Run};
use crate::table::{last_line, table};
use anyhow::{Context, Result};
use faults::Journal;
use std::collections::VecDeque;
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, available_parallelism};
use std::time::SystemTime;

/// The maximum number of attempts of a run. Only a starved run is repeated.
const MAX_ATTEMPTS: usize = 3;

/// The number of consecutive runs that were not starved after which the concurrency increases.
const GOOD_RUNS: usize = 4;

/// Runs the program. Returns whether all runs were valid and passed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let specs = plan(options)?;
    let folder = match options.resume.as_ref().or(options.output.as_ref()) {
        Some(folder) => folder.clone(),
        None => new_folder(),
    };
    let (mut journal, old) = Journal::<Run>::open(&folder)?;
    let is_done =
        |spec: &RunSpec| old.iter().any(|run| run.spec == *spec && run.report.invalid.is_none());
    let (done, remaining): (Vec<_>, Vec<_>) = specs.iter().copied().partition(is_done);
    let mut runs: Vec<Run> = Vec::new();
    runs.extend(done.iter().filter_map(|spec| {
        old.iter().rfind(|run| run.spec == *spec && run.report.invalid.is_none()).cloned()
    }));
    eprintln!(
        "{} runs, of which {} are done; results and logs are in {}",
        specs.len(),
        done.len(),
        folder.display()
    );
    runs.extend(execute_all(remaining.into(), jobs(options), &mut journal)?);

    println!("{}", table(&runs));
    let mut is_good = true;
    for run in &runs {
        if run.report.invalid.is_some() || !run.report.failures().is_empty() {
            is_good = false;
            println!("{} seed {}: {}", run.spec.cell, run.spec.seed, verdict(run));
            println!("  repeat: cargo xtask faults one '{}'", serde_json::to_string(&run.spec)?);
            println!("  log: {}", journal.log(&run.spec.log_name()).display());
        }
    }
    println!("{}", last_line(&runs));
    Ok(is_good)
}

/// Executes the remaining runs. A starved run is repeated with less concurrency.
fn execute_all(
    mut remaining: VecDeque<RunSpec>,
    max_jobs: usize,
    journal: &mut Journal<Run>,
) -> Result<Vec<Run>> {
    let mut progress = Progress::new(remaining.len(), remaining.iter().map(estimate).sum());
    let (sender, ended) = mpsc::channel::<Run>();
    let (mut runs, mut attempts, mut running) = (Vec::new(), Vec::<RunSpec>::new(), 0);
    let (mut jobs, mut good) = (max_jobs, 0);
    let program = env::current_exe().context("cannot find the path of this program")?;
    loop {
        while running < jobs
            && let Some(spec) = remaining.pop_front()
        {
            running += 1;
            attempts.push(spec);
            let (sender, program, log) =
                (sender.clone(), program.clone(), journal.log(&spec.log_name()));
            thread::spawn(move || {
                let report = execute(&program, &spec, &log)
                    .unwrap_or_else(|error| Report::invalid(format!("{error:#}")));
                // The receiver is only dropped if the program has ended.
                sender.send(Run { spec, report }).ok();
            });
        }
        if running == 0 {
            break;
        }
        let run = ended.recv().context("a thread ended without its run")?;
        running -= 1;
        journal.add(&run)?;
        let count = attempts.iter().filter(|spec| **spec == run.spec).count();
        if run.report.starved && count < MAX_ATTEMPTS {
            (jobs, good) = ((jobs - 1).max(1), 0);
            remaining.push_front(run.spec);
            progress.repeated(&run);
            progress.ended(&run, jobs);
        } else {
            good += 1;
            if good >= GOOD_RUNS {
                (jobs, good) = ((jobs + 1).min(max_jobs), 0);
            }
            progress.ended(&run, jobs);
            runs.push(run);
        }
    }
    progress.finish();
    Ok(runs)
}

/// Executes one run in a process, and logs to a file.
fn execute(program: &Path, spec: &RunSpec, log: &Path) -> Result<Report> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let spec = serde_json::to_string(spec)?;
    let mut command = Command::new(program);
    command.args(["one", &spec]).stdin(Stdio::null()).stderr(file);
    let output = command.output().context("cannot start a run")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout
        .lines()
        .last()
        .with_context(|| format!("the run ended without a report: {}", output.status))?;
    serde_json::from_str(line)
        .with_context(|| format!("the run ended without a report: {}: {line}", output.status))
}

fn jobs(options: &Options) -> usize {
    let cores = available_parallelism().map_or(1, usize::from);
    options.jobs.map_or(2 * cores, usize::from)
}

/// Returns the path of a new folder, named after the current time.
fn new_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    #[expect(clippy::disallowed_methods, reason = "a date for people")]
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    target.join("faults").join(now.replace(':', "-"))
}
