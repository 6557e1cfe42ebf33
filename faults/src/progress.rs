//! The progress: a bar on a terminal, or else a line per run.

use crate::plan::estimate;
use crate::report::Run;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::Duration;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    done: usize,
    total: usize,
    /// The estimated time of the remaining runs, one after the other.
    remaining: Duration,
}

impl Progress {
    pub(crate) fn new(total: usize, remaining: Duration) -> Self {
        const TICK: Duration = Duration::from_secs(1);
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {wide_msg}");
            let bar = style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, done: 0, total, remaining }
    }

    /// Reports that a run has ended. `jobs` is the current number of concurrent runs.
    pub(crate) fn ended(&mut self, run: &Run, jobs: usize) {
        self.done += 1;
        self.remaining = self.remaining.saturating_sub(estimate(&run.spec));
        let left = self.remaining / u32::try_from(jobs).unwrap_or(1).max(1);
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

    /// Reports that a run is repeated.
    pub(crate) fn repeated(&mut self, run: &Run) {
        self.total += 1;
        self.remaining += estimate(&run.spec);
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

/// Returns the result of a run as one line.
pub(crate) fn verdict(run: &Run) -> String {
    if let Some(why) = &run.report.invalid {
        return format!("INVALID: {why}");
    }
    let failures = run.report.failures();
    if failures.is_empty() { "good".to_owned() } else { format!("FAILED: {}", failures.join("; ")) }
}
