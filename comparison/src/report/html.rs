//! The report as one self-contained HTML page.

use super::bars::Bars;
use super::{Report, markdown};
use pulldown_cmark::{Event, Options, Parser, html};

const STYLE: &str = include_str!("page.css");

/// Returns the Markdown page with plots.
pub(super) fn page(report: &Report) -> String {
    let text = markdown::page(report, |exhibit| format!("{}\n", Bars(exhibit)));
    let events = Parser::new_ext(&text, Options::ENABLE_TABLES).map(|event| match event {
        Event::InlineHtml(text) => Event::Text(text),
        // A figure stays on one line with its unit.
        Event::Text(text) => {
            Event::Text(text.replace(" %", "\u{a0}%").replace(" ms", "\u{a0}ms").into())
        }
        other => other,
    });
    let mut body = String::new();
    html::push_html(&mut body, events);
    let body = body.replace('\u{a0}', "&nbsp;");
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
    fn texts_are_escaped_and_each_picture_and_exhibit_has_a_plot() {
        let text = page(&sample(Verdict::InPart));
        assert!(text.contains("It missed 5 &amp; &lt;none&gt;."), "{text}");
        assert!(text.contains("<th>missed | found</th>"), "{text}");
        for tag in ["<table>", "</table>", "<div class=\"bars\""] {
            assert_eq!(text.matches(tag).count(), 2, "{tag}: {text}");
        }
    }
}
