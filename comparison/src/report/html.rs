//! The report as one page that needs nothing else.

use super::svg::Bars;
use super::{Evidence, markdown};
use pulldown_cmark::{Event, Options, Parser, html};

const STYLE: &str = include_str!("page.css");

/// Returns the page: the Markdown, with the plots.
pub(super) fn page(evidence: &Evidence) -> String {
    let text = markdown::page(evidence, |exhibit| format!("{}\n", Bars(exhibit)));
    let events = Parser::new_ext(&text, Options::ENABLE_TABLES).map(|event| match event {
        Event::InlineHtml(text) => Event::Text(text),
        other => other,
    });
    let mut body = String::new();
    html::push_html(&mut body, events);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        markdown::TITLE
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn texts_are_escaped_and_each_exhibit_has_a_plot_and_a_table() {
        let text = page(&sample(Verdict::InPart));
        assert!(text.contains("<td>5 (3..9) &amp; &lt;none&gt;</td>"), "{text}");
        assert!(text.contains("<th>missed | found</th>"), "{text}");
        for tag in ["<table>", "</table>", "<svg ", "</svg>"] {
            let expected = if tag.contains("table") { 2 } else { 1 };
            assert_eq!(text.matches(tag).count(), expected, "{tag}: {text}");
        }
    }
}
