//! The results of a program in its folder: one line of JSON for each run.

use crate::cell::RunSpec;
use crate::report::Run;
use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a program, open to add results.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    file: File,
}

impl Journal {
    /// Opens a folder, which is made if there is none. Returns also the results that are there.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Run>)> {
        let context = || format!("cannot use the folder {}", folder.display());
        fs::create_dir_all(folder.join("logs")).with_context(context)?;
        let path = folder.join("runs.jsonl");
        let old = if path.exists() {
            fs::read_to_string(&path).with_context(context)?
        } else {
            String::new()
        };
        // The last line may be torn, if the program was killed while it wrote.
        let runs = old.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut file =
            OpenOptions::new().create(true).append(true).open(&path).with_context(context)?;
        if !old.is_empty() && !old.ends_with('\n') {
            writeln!(file).with_context(context)?;
        }
        Ok((Self { folder: folder.to_owned(), file }, runs))
    }

    pub(crate) fn add(&mut self, run: &Run) -> Result<()> {
        let line = serde_json::to_string(run)? + "\n";
        self.file.write_all(line.as_bytes()).context("cannot write a result")
    }

    /// Returns the file for the log of a run.
    pub(crate) fn log(&self, spec: &RunSpec) -> PathBuf {
        self.folder.join("logs").join(format!("{}-{}.log", spec.cell.file_name(), spec.seed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Cell;
    use crate::report::Report;
    use crate::schedule::Schedule;
    use crate::topology::Topology;
    use std::time::Duration;

    #[test]
    fn results_survive_a_program_that_was_killed() {
        let folder = tempfile::tempdir().unwrap();
        let cell = Cell::new(Schedule::Crash, Topology::Redis, Duration::from_secs(2));
        let spec = RunSpec { cell, owners: 5, seed: 9, quick: true, without_retention: false };
        let run = Run { spec, report: Report { states: 3, ..Report::default() } };
        let (mut journal, none) = Journal::open(folder.path()).unwrap();
        assert!(none.is_empty());
        journal.add(&run).unwrap();
        journal.file.write_all(b"{\"spec\":{\"ce").unwrap();
        let (mut journal, one) = Journal::open(folder.path()).unwrap();
        assert_eq!(one, std::slice::from_ref(&run));
        journal.add(&run).unwrap();
        assert_eq!(Journal::open(folder.path()).unwrap().1, [run.clone(), run]);
    }
}
