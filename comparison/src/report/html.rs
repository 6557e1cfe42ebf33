//! The report as one page that needs nothing else.

use super::Evidence;
use super::finding::{Exhibit, Finding};
use super::svg::Figure;
use std::fmt::{self, Display, Formatter};

const STYLE: &str = include_str!("page.css");

/// All of it.
pub(super) struct Page<'a>(pub(super) &'a Evidence);

/// A text with HTML characters escaped.
pub(super) struct Escaped<T>(pub(super) T);

struct Section<'a>(&'a Finding);

struct ExhibitHtml<'a>(&'a Exhibit);

struct List<'a>(&'a [String]);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(evidence) = self;
        writeln!(f, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
        writeln!(f, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
        writeln!(f, "<title>Why not Redis as a registry?</title>")?;
        writeln!(f, "<style>\n{STYLE}</style>\n</head>\n<body>")?;
        writeln!(f, "<h1>Why not Redis as a registry?</h1>")?;
        writeln!(f, "<div class=\"wide\"><table>")?;
        writeln!(f, "<tr><th>claim</th><th>verdict, as measured</th><th>the figure</th></tr>")?;
        for Finding { name, claim, verdict, figure, .. } in &evidence.findings {
            writeln!(f, "<tr><td><a href=\"#{name}\">{}</a></td>", Escaped(claim))?;
            writeln!(f, "<td class=\"verdict\">{verdict}</td><td>{}</td></tr>", Escaped(figure))?;
        }
        writeln!(f, "</table></div>\n{}", List(&evidence.conditions()))?;
        for finding in &evidence.findings {
            writeln!(f, "{}", Section(finding))?;
        }
        writeln!(f, "</body>\n</html>")
    }
}

impl Display for Section<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(Finding { name, claim, verdict, reason, exhibits, .. }) = self;
        writeln!(f, "<section id=\"{name}\">\n<h2>{}: {verdict}</h2>", Escaped(claim))?;
        writeln!(f, "<p>{}</p>", Escaped(reason))?;
        for exhibit in exhibits {
            write!(f, "{}", ExhibitHtml(exhibit))?;
        }
        writeln!(f, "<h3>How it was measured</h3>")?;
        writeln!(f, "{}<pre>{}</pre>\n</section>", List(&self.0.method), Escaped(&self.0.repeat))
    }
}

impl Display for ExhibitHtml<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(Exhibit { title, notes, plot, head, rows }) = self;
        writeln!(f, "<figure>\n<figcaption>{}</figcaption>", Escaped(title))?;
        if !notes.is_empty() {
            write!(f, "{}", List(notes))?;
        }
        writeln!(f, "{}</figure>\n<div class=\"wide\"><table>", Figure { title, plot })?;
        row(f, head, "th")?;
        for cells in rows {
            row(f, cells, "td")?;
        }
        writeln!(f, "</table></div>")
    }
}

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "<ul>")?;
        for line in self.0 {
            writeln!(f, "<li>{}</li>", Escaped(line))?;
        }
        writeln!(f, "</ul>")
    }
}

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        f.write_str(&text.replace('"', "&quot;"))
    }
}

fn row(f: &mut Formatter<'_>, cells: &[String], tag: &str) -> fmt::Result {
    write!(f, "<tr>")?;
    for cell in cells {
        write!(f, "<{tag}>{}</{tag}>", Escaped(cell))?;
    }
    writeln!(f, "</tr>")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn texts_are_escaped_and_all_tags_are_closed() {
        let text = Page(&sample(Verdict::InPart)).to_string();
        assert!(text.contains("5 (3..9) &amp; &lt;none&gt;"), "{text}");
        assert!(!text.contains("<none>"));
        for tag in ["table", "section", "svg", "ul", "figure", "div"] {
            let count = |what: &str| text.matches(what).count();
            let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
            assert_eq!(opened, count(&format!("</{tag}>")), "{tag}");
        }
    }
}
