//! The final table and the last line.

use crate::cell::Cell;
use crate::report::{Report, Run};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Returns a table with a line per cell.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut cells = BTreeMap::<Cell, Vec<&Report>>::new();
    for run in runs {
        cells.entry(run.spec.cell).or_default().push(&run.report);
    }
    let mut table = line(&[
        "schedule",
        "store",
        "topology",
        "ttl",
        "runs",
        "states",
        "missing ms",
        "late stale",
        "double",
        "return p50",
        "max",
        "bound",
        "lag ms",
        "",
    ]);
    for (cell, reports) in &cells {
        let valid: Vec<_> = reports.iter().filter(|report| report.invalid.is_none()).collect();
        let sum =
            |figure: fn(&Report) -> u64| valid.iter().map(|report| figure(report)).sum::<u64>();
        let mut returns: Vec<u64> = valid.iter().flat_map(|one| one.returns_ms.clone()).collect();
        returns.sort_unstable();
        let bound = valid.iter().map(|report| report.bound_ms).max().unwrap_or_default();
        let lag = reports.iter().map(|report| report.lag_ms).max().unwrap_or_default();
        let remark = match reports.len() - valid.len() {
            _ if valid.iter().any(|report| !report.failures().is_empty()) => "FAILED".to_owned(),
            0 => String::new(),
            invalid => format!("{invalid} INVALID"),
        };
        let words = [
            cell.schedule.to_string(),
            cell.topology.store().to_string(),
            cell.topology.to_string(),
            humantime::format_duration(cell.ttl()).to_string(),
            reports.len().to_string(),
            sum(|one| one.states).to_string(),
            sum(|one| one.missing_ms).to_string(),
            sum(|one| one.late_stale.into()).to_string(),
            sum(|one| one.double_holders.into()).to_string(),
            returns.get(returns.len() / 2).map(ToString::to_string).unwrap_or_default(),
            returns.last().map(ToString::to_string).unwrap_or_default(),
            bound.to_string(),
            lag.to_string(),
            remark,
        ];
        table += &line(&words.each_ref().map(String::as_str));
    }
    table
}

/// Returns the last line of the program: the sums of all valid runs.
pub(crate) fn last_line(runs: &[Run]) -> String {
    let valid = || runs.iter().map(|run| &run.report).filter(|report| report.invalid.is_none());
    let (faults, states) = (valid().count(), valid().map(|report| report.states).sum::<u64>());
    let missing: u64 = valid().map(|report| report.missing_ms).sum();
    let stale: u32 = valid().map(|report| report.late_stale).sum();
    let double: u32 = valid().map(|report| report.double_holders).sum();
    format!(
        "{faults} faults, {states} states, {missing} ms with a live instance missing, {stale} views stale too late, \
         {double} double holders"
    )
}

fn line(words: &[&str; 14]) -> String {
    const WIDTHS: [usize; 14] = [9, 5, 10, 5, 4, 7, 10, 10, 6, 10, 6, 6, 6, 0];
    let mut line = String::new();
    for (n, (word, width)) in words.iter().zip(WIDTHS).enumerate() {
        let written = match n {
            0..3 => write!(line, "{word:width$} "),
            _ => write!(line, "{word:>width$} "),
        };
        written.ok();
    }
    line.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::RunSpec;
    use crate::schedule::Schedule;
    use crate::topology::Topology;
    use std::time::Duration;

    fn run(report: Report) -> Run {
        let cell = Cell::new(Schedule::Wipe, Topology::Etcd, Duration::from_secs(2));
        let spec = RunSpec { cell, owners: 5, seed: 9, quick: true, without_retention: false };
        Run { spec, report }
    }

    #[test]
    fn the_last_line_sums_up_valid_runs() {
        let good =
            Report { states: 10, returns_ms: vec![5, 9, 70], bound_ms: 1_000, ..Report::default() };
        let bad = Report { missing_ms: 7, ..good.clone() };
        let invalid = Report { invalid: Some("no effect".to_owned()), ..bad.clone() };
        let line = last_line(&[run(good.clone()), run(good.clone())]);
        let expected = "2 faults, 20 states, 0 ms with a live instance missing, 0 views stale too late, 0 double holders";
        assert_eq!(line, expected);
        assert!(
            last_line(&[run(good.clone()), run(bad), run(invalid.clone())])
                .starts_with("2 faults, 20 states, 7 ms")
        );
        let table = table(&[run(good), run(invalid)]);
        assert!(table.ends_with("1 INVALID\n"), "{table}");
        assert!(table.lines().all(|line| line.len() <= 120), "{table}");
    }
}
