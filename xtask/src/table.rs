//! The table of the matrix.

/// The result of a run of nextest.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) succeeded: bool,
    passed: u32,
    run: u32,
    seconds: String,
}

impl Tally {
    /// Reads a line of output, if it is the summary:
    /// `Summary [  14.786s] 26 tests run: 24 passed (1 slow), 2 failed, 0 skipped`.
    pub(crate) fn read(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("Summary [") else { return };
        let Some((seconds, rest)) = rest.split_once("s]") else { return };
        seconds.trim().clone_into(&mut self.seconds);
        let words: Vec<&str> =
            rest.split([' ', ',', ':']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            // `5/26 tests run` if nextest stopped early.
            let number = pair[0].split('/').next().and_then(|number| number.parse().ok());
            match (number, pair[1]) {
                (Some(number), "test" | "tests") => self.run = number,
                (Some(number), "passed") => self.passed = number,
                _ => {}
            }
        }
    }

    fn failed(&self) -> u32 {
        self.run.saturating_sub(self.passed)
    }
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) release: &'a str,
    pub(crate) place: &'a str,
    pub(crate) suite: &'a str,
    pub(crate) tally: Tally,
}

impl Row<'_> {
    /// Returns whether at least one test ran and all passed.
    pub(crate) fn is_good(&self) -> bool {
        self.tally.succeeded && self.tally.passed > 0 && self.tally.failed() == 0
    }
}

/// Prints the rows as a table.
pub(crate) fn print(rows: &[Row<'_>]) {
    let line = |[release, place, suite, passed, failed, seconds, verdict]: [&str; 7]| {
        println!(
            "{release:28} {place:7} {suite:26} {passed:>6} {failed:>6} {seconds:>8} {verdict}"
        );
    };
    line(["release", "where", "suite", "passed", "failed", "seconds", ""]);
    for row in rows {
        let tally = &row.tally;
        let (passed, failed) = (tally.passed.to_string(), tally.failed().to_string());
        let verdict = match row.is_good() {
            true => "",
            false if tally.run == 0 => "ran no test",
            false => "failed",
        };
        let words = [row.release, row.place, row.suite, &passed, &failed, &tally.seconds, verdict];
        line(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(line: &str, succeeded: bool) -> Row<'static> {
        let mut tally = Tally { succeeded, ..Tally::default() };
        tally.read(line);
        Row { release: "", place: "", suite: "", tally }
    }

    #[test]
    fn summary_is_read() {
        let line = "     Summary [  14.786s] 26 tests run: 24 passed (1 slow), 2 failed, 0 skipped";
        let row = row(line, false);
        assert_eq!((row.tally.passed, row.tally.failed()), (24, 2));
        assert_eq!(row.tally.seconds, "14.786");
        assert!(!row.is_good());
    }

    #[test]
    fn run_is_good_if_a_test_ran_and_all_passed() {
        let good = "     Summary [   0.016s] 1 test run: 1 passed, 59 skipped";
        assert!(row(good, true).is_good());
        assert!(!row(good, false).is_good());
        assert!(!row("     Summary [   0.000s] 0 tests run: 0 passed, 59 skipped", true).is_good());
        assert!(!row("error: test run failed", true).is_good());
        let given_up = "     Summary [   1.000s] 5/26 tests run: 4 passed, 1 failed, 0 skipped";
        assert_eq!(row(given_up, false).tally.failed(), 1);
    }
}
