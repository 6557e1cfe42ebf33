//! The report as Markdown.

use super::Evidence;
use super::finding::{Exhibit, Finding};

pub(super) const TITLE: &str = "Why not Redis as a registry?";

/// Returns the page, with what `plot` makes of each exhibit above its table.
pub(super) fn page(evidence: &Evidence, plot: impl Fn(&Exhibit) -> String) -> String {
    let verdict = |finding: &Finding| {
        row([finding.claim, &format!("**{}**", finding.verdict), &finding.figure])
    };
    let section = |finding: &Finding| {
        let Finding { claim, verdict, reason, exhibits, method, repeat, .. } = finding;
        let exhibits = exhibits.iter().map(|of| exhibit(of, &plot(of))).collect::<String>();
        let method = list(method);
        format!("\n## {claim}: {verdict}\n\n{reason}\n\n{exhibits}{method}\n```sh\n{repeat}\n```\n")
    };
    format!(
        "# {TITLE}\n\n{}{}{}\n{}{}",
        row(["claim", "verdict", "the figure"]),
        row(["---"; 3]),
        evidence.findings.iter().map(verdict).collect::<String>(),
        list(&evidence.conditions()),
        evidence.findings.iter().map(section).collect::<String>()
    )
}

fn exhibit(Exhibit { title, notes, columns, rows, .. }: &Exhibit, plot: &str) -> String {
    let break_after_notes = if notes.is_empty() { "" } else { "\n" };
    let cells = |name, cells: &[String]| row([name].into_iter().chain(cells.iter().map(|c| &**c)));
    format!(
        "**{title}**\n\n{}{break_after_notes}{plot}{}{}{}\n",
        list(notes),
        cells("", columns),
        row(vec!["---"; columns.len() + 1]),
        rows.iter().map(|row| cells(&row.name, &row.cells)).collect::<String>()
    )
}

fn list(lines: &[String]) -> String {
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
    fn all_lines_of_a_table_have_the_same_number_of_cells() {
        let text = page(&sample(Verdict::Refuted), |_| String::new());
        let row = "| Redis lacks versioning | **refuted** | 5 (3..9) & <none> |";
        assert!(text.contains(row), "{text}");
        let table = "|  | missed \\| found |\n| --- | --- |\n| HSET + PUBLISH | 5 (3..9) |";
        assert!(text.contains(table), "{text}");
    }
}
