//! The report as Markdown.

use super::Report;
use super::finding::{Exhibit, Finding, Row};

pub(super) const TITLE: &str = "Why not Redis as a registry?";

const INTRODUCTION: &str = "Five claims, tested on real servers. Plain Redis stands for the usual designs with pub/sub, or with keys that expire. The registry is the library of this repository, on Redis or on etcd.";

const RULE: &str =
    "A row for Redis says that Redis suffices with these settings, not that etcd does not.";

/// The length of the longest bar, in characters.
const WIDTH: u32 = 20;

/// Returns the page. `plot` renders an exhibit above its table, and a picture.
pub(super) fn page(report: &Report, plot: impl Fn(&Exhibit) -> String) -> String {
    let first = |finding: &Finding| {
        let Finding { claim, verdict, headline, picture, .. } = finding;
        format!("**{claim}: {verdict}.** {headline}\n\n{}\n", plot(picture))
    };
    let section = |finding: &Finding| {
        let Finding { claim, verdict, reason, exhibits, method, repeat, .. } = finding;
        let exhibits = exhibits.iter().map(|of| exhibit(of, &plot(of))).collect::<String>();
        let method = list(method);
        format!("\n## {claim}: {verdict}\n\n{reason}\n\n{exhibits}{method}\n```sh\n{repeat}\n```\n")
    };
    let findings = &report.findings;
    let mut advice: Vec<_> = findings.iter().flat_map(|finding| &finding.advice).collect();
    // etcd comes before Redis, and neither comes last.
    advice.sort_by_key(|[choice, _]| (*choice == "neither", *choice != "etcd"));
    let advice = advice.iter().map(|[choice, when]| row([&*format!("**{choice}**"), *when]));
    format!(
        "# {TITLE}\n\n{INTRODUCTION}\n\n{}## Which store?\n\n{RULE}\n\n{}{}{}\n{}{}",
        findings.iter().map(first).collect::<String>(),
        row(["choose", "when"]),
        row(["---"; 2]),
        advice.collect::<String>(),
        list(&report.conditions.lines()),
        findings.iter().map(section).collect::<String>()
    )
}

/// Renders a picture as text. An exhibit with a table needs none.
pub(super) fn bars(Exhibit { title, columns, rows, .. }: &Exhibit) -> String {
    let longest = rows.iter().map(Row::length).fold(f64::MIN_POSITIVE, f64::max);
    let bar = |of: &Row| {
        let share = of.length() / longest * f64::from(WIDTH);
        let length = (0..WIDTH).filter(|n| f64::from(*n) < share).count();
        row([&*of.name, &format!("{} {}", "#".repeat(length), of.number())])
    };
    if !columns.is_empty() {
        return String::new();
    }
    let rows = rows.iter().map(bar).collect::<String>();
    format!("{}{}{rows}", row([title.as_str(), ""]), row(["---"; 2]))
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
    fn a_page_starts_with_the_headlines_and_the_decision_table() {
        let text = page(&sample(Verdict::Refuted), bars);
        let first =
            "**Redis lacks versioning: refuted.** It missed 5 & <none>.\n\n| Missed, in % |  |\n";
        assert!(text.contains(first), "{text}");
        assert!(text.contains("| plain | ########## 5 |\n| registry | #################### 10 |"));
        let choices = "| **etcd** | it survives. |\n| **Redis with AOF** | it is fast. |";
        assert!(text.contains(choices), "{text}");
    }

    #[test]
    fn all_lines_of_a_table_have_the_same_number_of_cells() {
        let text = page(&sample(Verdict::Refuted), bars);
        let table = "|  | missed \\| found |\n| --- | --- |\n| HSET + PUBLISH | 5 (3..9) |";
        assert!(text.contains(table), "{text}");
    }
}
