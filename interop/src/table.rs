//! The final table, and remarks on a run.

use crate::exceptions::reason;
use crate::report::{Failure, Figure, Pairing, Run};
use std::fmt::Write;

/// Returns a table with a line per pairing, the reference first.
pub(crate) fn table(runs: &[Run]) -> String {
    let mut table = line(&[
        "schedule",
        "etcd",
        "Go",
        "hosts",
        "servers",
        "caller",
        "calls",
        "lost",
        "in flight",
        "gap ms",
        "gone ms",
        "found ms",
        "back ms",
        "",
    ]);
    for run in runs {
        let spec = &run.spec;
        let time = |time: Option<u64>| time.map(|ms| ms.to_string()).unwrap_or_default();
        for (number, pairing) in run.report.pairings.iter().enumerate() {
            let figures = &pairing.figures;
            let remark = match number {
                0 => "reference",
                _ => verdict(run, pairing),
            };
            let words = [
                spec.schedule.to_string(),
                format!("{}x{}", spec.etcd, spec.members),
                spec.peer.to_string(),
                spec.hosts.to_string(),
                pairing.servers.clone(),
                pairing.caller.to_string(),
                figures.calls.to_string(),
                figures.lost.to_string(),
                figures.under_way.to_string(),
                figures.gap_ms.to_string(),
                time(figures.gone_ms),
                time(figures.found_ms),
                time(figures.back_ms),
                remark.to_owned(),
            ];
            table += &line(&words.each_ref().map(String::as_str));
        }
    }
    table
}

/// Returns the failures and notes of a run.
pub(crate) fn remarks(run: &Run) -> Vec<String> {
    let report = &run.report;
    let mut remarks = Vec::new();
    remarks.extend(report.invalid.iter().map(|why| format!("INVALID: {why}")));
    remarks.extend(report.problems.iter().map(|problem| format!("FAILED: {problem}")));
    for (pairing, failures) in report.compared(&run.spec) {
        for failure in failures {
            let name = format!("{} servers, caller in {}", pairing.servers, pairing.caller);
            let remark = match reason(&run.spec, pairing, failure.figure) {
                Some(reason) => format!("exception ({reason}): {name}: {failure}"),
                None => format!("FAILED: {name}: {failure}"),
            };
            remarks.push(remark + &why(pairing, &failure));
        }
    }
    remarks.extend(report.notes.iter().map(|note| format!("note: {note}")));
    remarks
}

impl Run {
    /// Returns the number of failed pairings. An invalid run, or one with other problems, counts as one more.
    pub(crate) fn failed(&self) -> usize {
        let report = &self.report;
        let is_failed = |(pairing, failures): &(&Pairing, Vec<Failure>)| {
            failures.iter().any(|one| reason(&self.spec, pairing, one.figure).is_none())
        };
        let failed = report.compared(&self.spec).iter().filter(|one| is_failed(one)).count();
        failed + usize::from(report.invalid.is_some() || !report.problems.is_empty())
    }
}

fn verdict(run: &Run, pairing: &Pairing) -> &'static str {
    let compared = run.report.compared(&run.spec);
    let failures = compared.iter().find(|(one, _)| *one == pairing).map(|(_, failures)| failures);
    let failures = failures.map_or(&[][..], Vec::as_slice);
    if failures.iter().any(|one| reason(&run.spec, pairing, one.figure).is_none()) {
        "FAILED"
    } else if failures.is_empty() {
        ""
    } else {
        "exception"
    }
}

/// Returns the most frequent error of lost calls.
fn why(pairing: &Pairing, failure: &Failure) -> String {
    let most = pairing.figures.errors.iter().max_by_key(|(_, count)| **count);
    let most = most.filter(|_| failure.figure == Figure::Lost);
    most.map(|(error, count)| format!(", {count} of them: {error}")).unwrap_or_default()
}

fn line(words: &[&str; 14]) -> String {
    const WIDTHS: [usize; 14] = [15, 5, 12, 5, 7, 6, 5, 5, 9, 6, 7, 8, 7, 0];
    let mut line = String::new();
    for (n, (word, width)) in words.iter().zip(WIDTHS).enumerate() {
        let written = match n {
            0..6 => write!(line, "{word:width$} "),
            _ => write!(line, "{word:>width$} "),
        };
        written.ok();
    }
    line.trim_end().to_owned() + "\n"
}
