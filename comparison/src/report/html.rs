//! The report as one page that needs nothing else.

use super::Evidence;
use super::finding::{Exhibit, Finding};
use super::svg;

const STYLE: &str = include_str!("page.css");

/// Returns the page.
pub(super) fn page(evidence: &Evidence) -> String {
    let verdicts = evidence.findings.iter().map(|finding| {
        let (claim, figure) = (escaped(finding.claim), escaped(&finding.figure));
        format!(
            "<tr><td><a href=\"#{}\">{claim}</a></td>\n<td class=\"verdict\">{}</td><td>{figure}</td></tr>\n",
            finding.name, finding.verdict
        )
    });
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Why not Redis as a registry?</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Why not Redis as a registry?</h1>\n<div class=\"wide\"><table>\n\
         <tr><th>claim</th><th>verdict, as measured</th><th>the figure</th></tr>\n\
         {}</table></div>\n{}\n{}</body>\n</html>\n",
        verdicts.collect::<String>(),
        list(&evidence.conditions()),
        evidence.findings.iter().map(section).collect::<String>(),
    )
}

fn section(finding: &Finding) -> String {
    let Finding { name, claim, verdict, reason, exhibits, method, repeat, .. } = finding;
    let exhibits = exhibits.iter().map(exhibit).collect::<String>();
    format!(
        "<section id=\"{name}\">\n<h2>{}: {verdict}</h2>\n<p>{}</p>\n{exhibits}\
         <h3>How it was measured</h3>\n{}<pre>{}</pre>\n</section>\n",
        escaped(claim),
        escaped(reason),
        list(method),
        escaped(repeat)
    )
}

fn exhibit(Exhibit { title, notes, plot, head, rows }: &Exhibit) -> String {
    let notes = if notes.is_empty() { String::new() } else { list(notes) };
    let rows = rows.iter().map(|cells| row(cells, "td")).collect::<String>();
    format!(
        "<figure>\n<figcaption>{}</figcaption>\n{notes}{}\n</figure>\n\
         <div class=\"wide\"><table>\n{}{rows}</table></div>\n",
        escaped(title),
        svg::Figure { title, plot },
        row(head, "th")
    )
}

fn list(lines: &[String]) -> String {
    let items = lines.iter().map(|line| format!("<li>{}</li>\n", escaped(line)));
    format!("<ul>\n{}</ul>\n", items.collect::<String>())
}

fn row(cells: &[String], tag: &str) -> String {
    let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
    format!("<tr>{}</tr>\n", cells.collect::<String>())
}

pub(super) fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn texts_are_escaped_and_all_tags_are_closed() {
        let text = page(&sample(Verdict::InPart));
        assert!(text.contains("5 (3..9) &amp; &lt;none&gt;"), "{text}");
        assert!(!text.contains("<none>"));
        for tag in ["table", "section", "svg", "ul", "figure", "div"] {
            let count = |what: &str| text.matches(what).count();
            let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
            assert_eq!(opened, count(&format!("</{tag}>")), "{tag}");
        }
    }
}
