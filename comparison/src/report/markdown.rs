//! The report as Markdown.

use super::decision::{self, CLAIMS, LIMITS};
use super::finding::{Exhibit, Finding, Plot};
use super::{Conditions, Report};

pub(super) const TITLE: &str = "Redis or etcd as a service registry?";
const TERMS: &str = "Plain Redis stands for the usual designs without a library: a hash with pub/sub, or keys with a ttl and keyspace notifications. `service-registry` is the library of this repository, which runs on Redis or on etcd.";
/// The length of the longest bar, in characters.
const WIDTH: u32 = 20;

/// Returns the page. `draw` renders a plot.
pub(super) fn page(report: &Report, draw: impl Fn(&Plot) -> String) -> String {
    let Report { conditions, findings } = report;
    let plot = |plot: &Plot| {
        let servers = if plot.servers.is_empty() { &conditions.servers } else { &plot.servers };
        let mut notes = plot.notes.clone();
        notes.push(format!("Servers: {}.", servers.join("; ")));
        format!("{}\n{}\n", draw(plot), list(&notes))
    };
    let first = |finding: &Finding| {
        let Finding { claim, ruling, headline, plots, .. } = finding;
        let plots = plots.iter().map(plot).collect::<String>();
        format!("### {claim}\n\n**{ruling}.** {headline}\n\n{plots}")
    };
    let section = |finding: &Finding| {
        let Finding { claim, verdict, reason, exhibits, method, repeat, .. } = finding;
        let exhibits = exhibits.iter().map(exhibit).collect::<String>();
        let method = list(method);
        format!(
            "\n## Details: {claim}\n\n**Verdict by the rule below: {verdict}.** {reason}\n\n{exhibits}{method}\n```sh\n{repeat}\n```\n"
        )
    };
    let Conditions { made, machine, servers, seed, .. } = conditions;
    format!(
        "# {TITLE}\n\n{}## The claims\n\n{}{}\n## Conditions\n\n* {made}, seed {seed}; {machine}.\n* Servers, unless a table names others: {}.\n",
        decision(conditions, findings),
        findings.iter().map(first).collect::<String>(),
        findings.iter().map(section).collect::<String>(),
        servers.join("; ")
    )
}

/// Returns the conclusion and the decision table, or that the run leads to none.
fn decision(conditions: &Conditions, findings: &[Finding]) -> String {
    let Conditions { servers, rounds, quick, .. } = conditions;
    let servers: Vec<_> = servers.iter().filter_map(|server| server.split(',').next()).collect();
    let quick = if *quick { "This was a quick run with small workloads. " } else { "" };
    let about = format!(
        "Five common claims about Redis, tested on one machine with {}. {quick}Each figure is the median of {rounds} rounds. {TERMS}\n\n",
        servers.join(" and ")
    );
    if findings.len() < CLAIMS {
        let tested = findings.len();
        return format!("{about}Only {tested} of them were tested: no recommendation follows.\n\n");
    }
    let [conclusion, because] = decision::conclusion(findings);
    let rows = decision::rows(findings).map(|cells| row(cells.each_ref().map(String::as_str)));
    format!(
        "**{conclusion}** {because}\n\n## Which store?\n\n{}{}{}\n{}\n{about}",
        row(["choose", "when", "with these settings"]),
        row(["---"; 3]),
        rows.collect::<String>(),
        list(&LIMITS)
    )
}

/// Renders a plot as a table.
pub(super) fn bars(plot: &Plot) -> String {
    let bars = plot.shares().map(|(bar, share)| {
        let length = (0..WIDTH).filter(|n| f64::from(*n) < share * f64::from(WIDTH)).count();
        let note = if bar.note.is_empty() { String::new() } else { format!(" ({})", bar.note) };
        let plot = format!("{} {}", "#".repeat(length), bar.label);
        row([&*format!("{}{note}", bar.name), plot.trim_start()])
    });
    let bars = bars.collect::<String>();
    format!("{}{}{bars}", row([plot.title.as_str(), ""]), row(["---"; 2]))
}

/// Renders a table without the columns of which nothing was measured.
fn exhibit(Exhibit { title, notes, columns, rows, .. }: &Exhibit) -> String {
    let is_measured = |n: &usize| rows.iter().any(|row| row[*n] != "-");
    let shown: Vec<usize> = (0..=columns.len()).filter(is_measured).collect();
    let break_after_notes = if notes.is_empty() { "" } else { "\n" };
    let cells = |cells: &[String]| row(shown.iter().map(|n| cells[*n].as_str()));
    let head: Vec<String> = [String::new()].into_iter().chain(columns.iter().cloned()).collect();
    format!(
        "**{title}**\n\n{}{break_after_notes}{}{}{}\n",
        list(notes),
        cells(&head),
        row(vec!["---"; shown.len()]),
        rows.iter().map(|row| cells(row)).collect::<String>()
    )
}

fn list(lines: &[impl std::fmt::Display]) -> String {
    lines.iter().map(|line| format!("* {line}\n")).collect()
}

fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells = cells.into_iter().map(|cell| format!("| {} ", cell.replace('|', "\\|")));
    format!("{}|\n", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn a_page_starts_with_the_decision_and_continues_with_the_headlines() {
        let mut sample = sample(Verdict::Refuted);
        let text = page(&sample, bars);
        let first = "**true of plain Redis.** It missed 5 & <none>.\n\n| Missed |  |\n";
        assert!(text.find("## Which store?").unwrap() < text.find(first).unwrap(), "{text}");
        let plot = "| HSET + PUBLISH (told) | ########## 5 |\n| library (told) | #################### 10 of 11 |";
        assert!(text.contains(plot) && text.contains("* Servers: redis 7."), "{text}");
        sample.findings.truncate(2);
        let text = page(&sample, bars);
        assert!(text.contains("Only 2 of them were tested: no recommendation"), "{text}");
    }

    #[test]
    fn a_table_has_no_columns_without_figures_and_as_many_cells_in_each_line() {
        let text = page(&sample(Verdict::Refuted), bars);
        let table = "|  | missed \\| found |\n| --- | --- |\n| HSET + PUBLISH | 5 (3..9) |\n";
        assert!(text.contains(table), "{text}");
    }
}
