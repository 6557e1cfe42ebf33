//! Executes all runs, one after the other.

use crate::options::Options;
use crate::plan::plan;
use crate::program::within;
use crate::report::{self, Report, Run};
use crate::schedule::estimate;
use crate::spec::RunSpec;
use crate::stage::Stage;
use crate::table::{remarks, table};
use anyhow::{Context, Result};
use faults::Journal;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The maximum number of attempts of a run. Only a starved run is repeated.
const MAX_ATTEMPTS: usize = 3;

/// The timeout of a run.
const RUN_WITHIN: Duration = Duration::from_secs(240);

/// Runs the program. Returns whether all pairings passed.
pub(crate) async fn run(options: &Options) -> Result<bool> {
    let specs = plan(options)?;
    let folder = match options.resume.as_ref().or(options.output.as_ref()) {
        Some(folder) => folder.clone(),
        None => new_folder(),
    };
    let (mut journal, old) = Journal::<Run>::open(&folder)?;
    let done = |spec: &RunSpec| {
        old.iter().rfind(|run| run.spec == *spec && run.report.invalid.is_none()).cloned()
    };
    let mut remaining: Duration =
        specs.iter().filter(|one| done(one).is_none()).map(estimate).sum();
    eprintln!("{} runs; results and logs are in {}", specs.len(), folder.display());
    let mut runs = Vec::new();
    for (number, spec) in (1..).zip(&specs) {
        let run = if let Some(run) = done(spec) {
            run
        } else {
            let about = humantime::format_duration(Duration::from_secs(remaining.as_secs()));
            eprintln!("{number}/{} {spec}, about {about} left", specs.len());
            remaining = remaining.saturating_sub(estimate(spec));
            let logs = folder.join("logs").join(spec.file_name());
            let run = Run { spec: *spec, report: execute(options, *spec, &logs).await };
            journal.add(&run)?;
            run
        };
        for remark in remarks(&run) {
            eprintln!("  {remark}");
        }
        runs.push(run);
    }
    println!("{}", table(&runs));
    let (mut pairings, mut failed) = (0, 0);
    for run in &runs {
        for remark in remarks(run) {
            println!("{}: {remark}", run.spec);
        }
        let compared = run.report.compared(&run.spec);
        // A run without pairings counts as one, and fails.
        pairings += compared.len().max(1);
        failed += run.failed();
    }
    println!("{pairings} pairings, {failed} failed");
    Ok(failed == 0)
}

/// Executes a run, and repeats it if it was starved.
async fn execute(options: &Options, spec: RunSpec, logs: &Path) -> Report {
    let mut report = Report::default();
    for _ in 0..MAX_ATTEMPTS {
        let run = async {
            fs::remove_dir_all(logs).ok();
            fs::create_dir_all(logs)
                .with_context(|| format!("cannot create {}", logs.display()))?;
            report::execute(Stage::open(spec, &options.go, &options.release, logs).await?).await
        };
        let outcome = within(RUN_WITHIN, run).await;
        report = match outcome.with_context(|| format!("the run did not end within {RUN_WITHIN:?}"))
        {
            Ok(Ok(report)) => report,
            Ok(Err(error)) | Err(error) => Report::invalid(format!("{error:#}")),
        };
        if !report.starved {
            break;
        }
    }
    report
}

/// Returns the path of a new folder, named after the current time.
fn new_folder() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    #[expect(clippy::disallowed_methods, reason = "a date for people")]
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    target.join("interop").join(now.replace(':', "-"))
}
