//! Compares counts with their baselines.

use std::collections::BTreeSet;

use super::baseline::{Baseline, HotPath};
use super::count::Counts;

/// A hot path with its baseline and its count. Either may be missing.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    name: &'a str,
    before: Option<u32>,
    now: Option<u32>,
    /// In per cent.
    tolerance: f64,
}

/// The verdict on a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Within,
    Above,
    /// An error as well, since a baseline that is too high hides the next regression.
    Below,
    New,
    Gone,
}

/// Returns a row for every path of either, by name.
pub(crate) fn rows<'a>(before: Option<&'a Baseline>, now: &'a Counts) -> Vec<Row<'a>> {
    let baselines = before.into_iter().flat_map(|before| before.paths.keys());
    let names: BTreeSet<&String> = baselines.chain(now.keys()).collect();
    let row = |name: &'a String| {
        let before = before.and_then(|before| before.paths.get(name));
        Row {
            name,
            before: before.map(|path| path.instructions),
            now: now.get(name).copied(),
            tolerance: before.map_or(0.0, HotPath::tolerance),
        }
    };
    names.into_iter().map(row).collect()
}

impl Row<'_> {
    pub(crate) fn verdict(&self) -> Verdict {
        let change = match (self.before, self.now) {
            (None, _) => return Verdict::New,
            (_, None) => return Verdict::Gone,
            (Some(before), Some(now)) => change(before, now),
        };
        if change > self.tolerance {
            Verdict::Above
        } else if change < -self.tolerance {
            Verdict::Below
        } else {
            Verdict::Within
        }
    }

    /// Returns the message for a verdict.
    pub(crate) fn complaint(&self) -> String {
        let (name, allowed) = (self.name, self.tolerance);
        let change = self.change();
        match self.verdict() {
            Verdict::Within => format!("{name} is within its tolerance"),
            Verdict::Above => {
                format!("{name} takes more: {change} %, the tolerance is {allowed} %")
            }
            Verdict::Below => format!(
                "{name} takes less: {change} %, the tolerance is {allowed} %; accept it, or the baseline hides a regression"
            ),
            Verdict::New => format!("{name} has no baseline"),
            Verdict::Gone => format!("{name} has a baseline, but was not counted"),
        }
    }

    /// Returns the change in per cent. Empty if the baseline or the count is missing.
    fn change(&self) -> String {
        let both = self.before.zip(self.now);
        both.map(|(before, now)| format!("{:+.2}", change(before, now))).unwrap_or_default()
    }
}

/// Prints the rows as a table.
pub(crate) fn print(rows: &[Row<'_>]) {
    let line = |[name, before, now, change, verdict]: [&str; 5]| {
        let text = format!("{name:18} {before:>12} {now:>12} {change:>9}  {verdict}");
        println!("{}", text.trim_end());
    };
    line(["100 times each", "baseline", "now", "change %", ""]);
    for row in rows {
        let count = |count: Option<u32>| count.map_or_else(|| "-".to_owned(), grouped);
        let verdict = match row.verdict() {
            Verdict::Within => "",
            Verdict::Above => "more",
            Verdict::Below => "less",
            Verdict::New => "new",
            Verdict::Gone => "missing",
        };
        line([row.name, &count(row.before), &count(row.now), &row.change(), verdict]);
    }
}

/// Returns the change from `before` to `now` in per cent.
fn change(before: u32, now: u32) -> f64 {
    (f64::from(now) - f64::from(before)) * 100.0 / f64::from(before.max(1))
}

/// Formats `1234567` as `1,234,567`.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path with a tolerance of 1 %, and one with 3 %.
    fn baseline() -> Baseline {
        let toolchain = r#"{"rustc": "r", "valgrind": "v", "libc": "l", "cpu": "c"}"#;
        let paths = r#"{"a": {"instructions": 1000}, "b": {"instructions": 1000, "tolerance": 3}}"#;
        serde_json::from_str(&format!(r#"{{"toolchain": {toolchain}, "paths": {paths}}}"#)).unwrap()
    }

    fn counts(counts: &[(&str, u32)]) -> Counts {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn verdicts(now: &[(&str, u32)]) -> Vec<Verdict> {
        rows(Some(&baseline()), &counts(now)).iter().map(Row::verdict).collect()
    }

    #[test]
    fn a_count_may_differ_by_its_tolerance_both_ways() {
        for (a, b, verdict) in [
            (1000, 1000, Verdict::Within),
            (1010, 1030, Verdict::Within),
            (990, 970, Verdict::Within),
            (1011, 1031, Verdict::Above),
            (989, 969, Verdict::Below),
        ] {
            assert_eq!(verdicts(&[("a", a), ("b", b)]), [verdict; 2], "{a}, {b}");
        }
    }

    #[test]
    fn a_path_that_only_one_side_has_is_reported() {
        assert_eq!(verdicts(&[("b", 1000)]), [Verdict::Gone, Verdict::Within]);
        let new = verdicts(&[("a", 1000), ("aa", 7), ("b", 1000)]);
        assert_eq!(new, [Verdict::Within, Verdict::New, Verdict::Within]);
        assert_eq!(rows(None, &counts(&[("a", 7)]))[0].verdict(), Verdict::New);
    }

    #[test]
    fn a_failure_names_the_path_the_change_and_the_tolerance() {
        let (before, now) = (baseline(), counts(&[("a", 1100), ("b", 900)]));
        let rows = rows(Some(&before), &now);
        assert_eq!(rows[0].complaint(), "a takes more: +10.00 %, the tolerance is 1 %");
        assert!(rows[1].complaint().starts_with("b takes less: -10.00 %, the tolerance is 3 %"));
    }

    #[test]
    fn accepting_keeps_the_tolerances() {
        let before = baseline();
        let now = counts(&[("b", 2000), ("c", 5)]);
        let after = Baseline::new(baseline().toolchain, now, Some(&before));
        let held: Vec<_> = after
            .paths
            .iter()
            .map(|(name, path)| (name.as_str(), path.instructions, path.tolerance().to_string()))
            .collect();
        assert_eq!(held, [("b", 2000, "3".to_owned()), ("c", 5, "1".to_owned())]);
    }

    #[test]
    fn another_toolchain_is_named() {
        let now =
            serde_json::from_str(r#"{"rustc": "r", "valgrind": "w", "libc": "l", "cpu": "c"}"#);
        assert_eq!(baseline().toolchain.differences(&now.unwrap()), ["v before, w now"]);
    }

    #[test]
    fn digits_are_grouped() {
        let groups = [7, 123, 1234, 1_234_567].map(grouped);
        assert_eq!(groups, ["7", "123", "1,234", "1,234,567"]);
    }
}
