//! Progress: a bar on a terminal, elsewhere a line for each run.

use crate::plan::estimate;
use crate::report::Run;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

/// The progress of a program.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
    /// How long the runs take that are left, one after the other.
    left: Duration,
}

impl Progress {
    pub(crate) fn new(total: usize, left: Duration) -> Self {
        const TICK: Duration = Duration::from_secs(1);
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}");
            let bar = style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, done: 0, total, left }
    }

    /// Notes that a run has ended, while `jobs` are made at a time.
    pub(crate) fn ended(&mut self, run: &Run, jobs: usize) {
        self.done += 1;
        self.left = self.left.saturating_sub(estimate(&run.spec));
        let left = self.left / u32::try_from(jobs).unwrap_or(1).max(1);
        let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
        let verdict = verdict(run);
        let (cell, seed) = (run.spec.cell, run.spec.seed);
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(format!("about {left} left; {cell}: {verdict}"));
            if verdict != "good" {
                bar.println(format!("{cell} seed {seed}: {verdict}"));
            }
        } else {
            let (done, total) = (self.done, self.total);
            eprintln!("{done}/{total} {cell} seed {seed}: {verdict}, about {left} left");
        }
    }

    /// Notes that a run is made again.
    pub(crate) fn again(&mut self, run: &Run) {
        self.total += 1;
        self.left += estimate(&run.spec);
        if let Some(bar) = &self.bar {
            bar.inc_length(1);
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Returns what came out of a run, in a line.
pub(crate) fn verdict(run: &Run) -> String {
    if let Some(why) = &run.report.invalid {
        return format!("INVALID: {why}");
    }
    let failures = run.report.failures();
    if failures.is_empty() { "good".to_owned() } else { format!("FAILED: {}", failures.join("; ")) }
}
