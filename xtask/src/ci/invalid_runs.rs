//! The lane `tests`, and the test runs that failed with too much scheduling lag and were repeated.

use std::fs;
use std::path::PathBuf;

use super::report::Steps;
use crate::folders::{target, workspace};
use crate::test;

/// Runs every test, and notes the number of invalid runs. A test fails at its third invalid run.
pub(super) fn run(steps: &mut Steps) {
    let (list, summary) = (list(), summary());
    for old in [&list, &summary] {
        let _ = fs::remove_file(old); // missing on a new machine
    }
    steps.run("tests", || test::run(test::Scope::All, Some(&list)));
    let invalid = fs::read_to_string(list).unwrap_or_default();
    let tests = fs::read_to_string(summary).ok().and_then(|summary| count(&summary));
    steps.note(&note(&invalid, tests));
}

/// Returns the file to which tests append their invalid runs.
fn list() -> PathBuf {
    workspace().join(target()).join("invalid-runs")
}

/// Returns the file to which nextest writes its summary, in the profile of CI.
fn summary() -> PathBuf {
    workspace().join(target()).join("nextest/ci/junit.xml")
}

/// Returns the number of tests in a summary: its first attribute `tests`.
fn count(summary: &str) -> Option<usize> {
    let (_, rest) = summary.split_once(" tests=\"")?;
    rest.split_once('"')?.0.parse().ok()
}

/// Returns the number of invalid runs, and a line for each.
fn note(invalid: &str, tests: Option<usize>) -> String {
    let runs: Vec<&str> = invalid.lines().collect();
    // Each test has one valid run, in addition to the invalid ones.
    let total = tests.map_or_else(String::new, |tests| format!(" of {}", tests + runs.len()));
    let summary = format!("invalid runs due to scheduling lag: {}{total}", runs.len());
    [&[&*summary], &runs[..]].concat().join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_has_the_number_of_invalid_runs_and_their_names() {
        let summary =
            r#"<testsuites name="nextest-run" tests="7" failures="0"><testsuite tests="3">"#;
        let tests = count(summary);
        assert_eq!(note("", tests), "invalid runs due to scheduling lag: 0 of 7");
        assert_eq!(
            note("invalid run: a\ninvalid run: b\n", tests),
            "invalid runs due to scheduling lag: 2 of 9\n  invalid run: a\n  invalid run: b"
        );
        assert_eq!(note("", count("")), "invalid runs due to scheduling lag: 0");
    }
}
