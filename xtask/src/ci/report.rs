//! The table of lanes: their times, budgets and failures.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The result of a lane.
#[derive(Debug)]
struct Row {
    lane: &'static str,
    budget: Duration,
    took: Duration,
    failed: Vec<String>,
}

impl Row {
    /// Returns the failures of the lane. A lane over its budget does not fail, since the machine may be busy.
    fn remark(&self) -> String {
        match &self.failed[..] {
            [] if self.took > self.budget => "OVER BUDGET".to_owned(),
            [] => String::new(),
            failed => format!("FAILED: {}", failed.join(", ")),
        }
    }
}

/// The results of all lanes.
#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Runs a lane, and adds its result. `budget` is in minutes.
    pub(super) fn lane(&mut self, lane: &'static str, budget: u64, run: impl FnOnce(&mut Steps)) {
        let start = Instant::now();
        let mut steps = Steps::default();
        run(&mut steps);
        let budget = Duration::from_secs(budget * 60);
        self.rows.push(Row { lane, budget, took: start.elapsed(), failed: steps.failed });
        self.notes.extend(steps.notes);
    }

    pub(super) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| row.failed.is_empty())
    }

    /// Returns the table with the notes below it.
    pub(super) fn table(&self) -> String {
        let line = |lane: &str, minutes: &str, budget: &str, remark: &str| {
            format!("{lane:8} {minutes:>7} {budget:>6}  {remark}").trim_end().to_owned() + "\n"
        };
        let timed = |lane: &str, took: Duration, budget: Duration, remark: &str| {
            let minutes = format!("{:.1}", took.as_secs_f64() / 60.0);
            line(lane, &minutes, &(budget.as_secs() / 60).to_string(), remark)
        };
        let mut table = line("lane", "minutes", "budget", "");
        for row in &self.rows {
            table += &timed(row.lane, row.took, row.budget, &row.remark());
        }
        let took = self.rows.iter().map(|row| row.took).sum();
        let budget = self.rows.iter().map(|row| row.budget).sum();
        table += &timed("all", took, budget, "");
        for note in &self.notes {
            table += note;
            table += "\n";
        }
        table
    }
}

/// The steps of a lane. A failed step does not prevent the next one.
#[derive(Debug, Default)]
pub(super) struct Steps {
    failed: Vec<String>,
    notes: Vec<String>,
}

impl Steps {
    /// Runs a step, and prints how long it took.
    pub(super) fn run<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Option<T> {
        println!("\n== {name}");
        let start = Instant::now();
        let result = run();
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(value) => {
                println!("== {name}: {seconds} s");
                Some(value)
            }
            Err(error) => {
                println!("== {name}: FAILED after {seconds} s: {error:#}");
                self.failed.push(name.to_owned());
                None
            }
        }
    }

    /// Adds a line below the table.
    pub(super) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    pub(super) fn is_good(&self) -> bool {
        self.failed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn row(lane: &'static str, took: u64, failed: &[&str]) -> Row {
        Row {
            lane,
            budget: Duration::from_secs(180),
            took: Duration::from_secs(took),
            failed: failed.iter().map(|step| (*step).to_owned()).collect(),
        }
    }

    #[test]
    fn the_table_shows_times_budgets_failures_and_notes() {
        let rows = vec![
            row("fast", 42, &[]),
            row("slow", 198, &[]),
            row("bad", 1200, &["clippy", "typos"]),
        ];
        let report = Report { rows, notes: vec!["not done: everything".to_owned()] };
        assert_eq!(
            report.table(),
            "\
lane     minutes budget
fast         0.7      3
slow         3.3      3  OVER BUDGET
bad         20.0      3  FAILED: clippy, typos
all         24.0      9
not done: everything
"
        );
        assert!(!report.is_good());
    }

    #[test]
    fn lane_over_its_budget_does_not_fail() {
        assert!(Report { rows: vec![row("slow", 198, &[])], notes: Vec::new() }.is_good());
    }

    #[test]
    fn failed_step_does_not_prevent_the_next() {
        let mut report = Report::default();
        report.lane("lane", 1, |steps| {
            assert!(steps.run("first", || -> Result<()> { bail!("no") }).is_none());
            assert_eq!(steps.run("second", || Ok(7)), Some(7));
            steps.note("a note");
        });
        assert_eq!(report.rows[0].failed, ["first"]);
        assert_eq!(report.notes, ["a note"]);
    }
}
