//! The report as Markdown.

use super::Evidence;
use super::finding::{Exhibit, Finding};

/// Returns the page.
pub(super) fn page(evidence: &Evidence) -> String {
    let head = ["claim", "verdict", "the figure"].map(str::to_owned);
    let verdict = |finding: &Finding| {
        let Finding { claim, verdict, figure, .. } = finding;
        vec![(*claim).to_owned(), format!("**{verdict}**"), figure.clone()]
    };
    let verdicts = evidence.findings.iter().map(verdict).collect::<Vec<_>>();
    format!(
        "# Why not Redis as a registry?\n\n{}\n{}{}",
        table(&head, &verdicts),
        list(&evidence.conditions()),
        evidence.findings.iter().map(section).collect::<String>()
    )
}

fn section(finding: &Finding) -> String {
    let Finding { claim, verdict, reason, exhibits, method, repeat, .. } = finding;
    let exhibit = |Exhibit { title, notes, head, rows, .. }: &Exhibit| {
        let break_after_notes = if notes.is_empty() { "" } else { "\n" };
        format!("**{title}**\n\n{}{break_after_notes}{}\n", list(notes), table(head, rows))
    };
    let exhibits = exhibits.iter().map(exhibit).collect::<String>();
    let method = list(method);
    format!("\n## {claim}: {verdict}\n\n{reason}\n\n{exhibits}{method}\n```sh\n{repeat}\n```\n")
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("* {line}\n")).collect()
}

fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let row = |cells: &[String]| {
        let cells = cells.iter().map(|cell| format!("| {} ", cell.replace('|', "\\|")));
        format!("{}|\n", cells.collect::<String>())
    };
    let rule = vec!["---".to_owned(); head.len()];
    let rows = rows.iter().map(|cells| row(cells));
    [row(head), row(&rule)].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn all_lines_of_a_table_have_the_same_number_of_cells() {
        let text = page(&sample(Verdict::Refuted));
        let row = "| Redis lacks versioning | **refuted** | 5 (3..9) & <none> |";
        assert!(text.contains(row), "{text}");
        let table = "|  | missed \\| found |\n| --- | --- |\n| HSET + PUBLISH | 5 (3..9) |";
        assert!(text.contains(table), "{text}");
    }
}
