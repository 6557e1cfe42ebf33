//! The report as Markdown.

use super::Evidence;
use super::finding::{Exhibit, Finding};
use std::fmt::{self, Display, Formatter};

/// All of it.
pub(super) struct Page<'a>(pub(super) &'a Evidence);

struct Section<'a>(&'a Finding);

struct Table<'a> {
    head: &'a [String],
    rows: &'a [Vec<String>],
}

struct Row<'a>(&'a [String]);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(evidence) = self;
        writeln!(f, "# Why not Redis as a registry?\n")?;
        let head = ["claim", "verdict", "the figure"].map(str::to_owned);
        let verdict = |finding: &Finding| {
            let Finding { claim, verdict, figure, .. } = finding;
            vec![(*claim).to_owned(), format!("**{verdict}**"), figure.clone()]
        };
        let rows: Vec<_> = evidence.findings.iter().map(verdict).collect();
        writeln!(f, "{}", Table { head: &head, rows: &rows })?;
        for line in evidence.conditions() {
            writeln!(f, "* {line}")?;
        }
        evidence.findings.iter().try_for_each(|finding| write!(f, "\n{}", Section(finding)))
    }
}

impl Display for Section<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(Finding { claim, verdict, reason, exhibits, method, repeat, .. }) = self;
        writeln!(f, "## {claim}: {verdict}\n\n{reason}\n")?;
        for Exhibit { title, notes, head, rows, .. } in exhibits {
            writeln!(f, "**{title}**\n")?;
            for note in notes {
                writeln!(f, "* {note}")?;
            }
            let break_after_notes = if notes.is_empty() { "" } else { "\n" };
            writeln!(f, "{break_after_notes}{}", Table { head, rows })?;
        }
        for line in method {
            writeln!(f, "* {line}")?;
        }
        writeln!(f, "\n```sh\n{repeat}\n```")
    }
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rule = vec!["---".to_owned(); self.head.len()];
        writeln!(f, "{}\n{}", Row(self.head), Row(&rule))?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", Row(row)))
    }
}

impl Display for Row<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for cell in self.0 {
            write!(f, "| {} ", cell.replace('|', "\\|"))?;
        }
        write!(f, "|")
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn all_lines_of_a_table_have_the_same_number_of_cells() {
        let text = Page(&sample(Verdict::Refuted)).to_string();
        let row = "| Redis lacks versioning | **refuted** | 5 (3..9) & <none> |";
        assert!(text.contains(row), "{text}");
        let table = "|  | missed \\| found |\n| --- | --- |\n| HSET + PUBLISH | 5 (3..9) |";
        assert!(text.contains(table), "{text}");
    }
}
