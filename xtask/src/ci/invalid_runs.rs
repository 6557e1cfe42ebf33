//! The runs of tests that failed with too much scheduling lag, and were repeated.

use std::fs;
use std::path::PathBuf;

use super::report::Steps;
use crate::folders::{target, workspace};
use crate::test;

/// Runs every test, and notes how many runs were invalid. The third invalid run of a test fails that test.
pub(super) fn run(steps: &mut Steps) {
    let (list, summary) = (list(), summary());
    for old in [&list, &summary] {
        let _ = fs::remove_file(old); // there is none on a new machine
    }
    steps.run("tests", || test::run(test::Scope::All, Some(&list)));
    let invalid = fs::read_to_string(list).unwrap_or_default();
    let tests = fs::read_to_string(summary).ok().and_then(|summary| count(&summary));
    steps.note(&note(&invalid, tests));
}

/// Where tests list their invalid runs.
fn list() -> PathBuf {
    workspace().join(target()).join("invalid-runs")
}

/// Where nextest writes what it ran, in the profile of CI.
fn summary() -> PathBuf {
    workspace().join(target()).join("nextest/ci/junit.xml")
}

/// The number of tests in a summary, which the first `tests` attribute is.
fn count(summary: &str) -> Option<usize> {
    let (_, rest) = summary.split_once(" tests=\"")?;
    rest.split_once('"')?.0.parse().ok()
}

/// The number of invalid runs, and which they were.
fn note(invalid: &str, tests: Option<usize>) -> String {
    let runs: Vec<&str> = invalid.lines().collect();
    // Each invalid run is one more than there are tests.
    let of = tests.map_or_else(String::new, |tests| format!(" of {}", tests + runs.len()));
    let summary = format!("invalid runs, for too much scheduling lag: {}{of}", runs.len());
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
        assert_eq!(note("", tests), "invalid runs, for too much scheduling lag: 0 of 7");
        assert_eq!(
            note("invalid run: a\ninvalid run: b\n", tests),
            "invalid runs, for too much scheduling lag: 2 of 9\n  invalid run: a\n  invalid run: b"
        );
        assert_eq!(note("", count("")), "invalid runs, for too much scheduling lag: 0");
    }
}
