//! The report as one self-contained HTML page.

use super::finding::Plot;
use super::{Report, markdown};
use pulldown_cmark::{Event, Options, Parser, html};

const STYLE: &str = include_str!("page.css");

/// Returns the Markdown page with plots.
pub(super) fn page(report: &Report) -> String {
    let text = markdown::page(report, bars);
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

/// Returns a plot whose bars the style sheet sizes, so that names stay readable on a phone.
fn bars(plot: &Plot) -> String {
    let title = escaped(&plot.title);
    let bars = plot.shares().map(|(bar, share)| {
        let [name, label, note] = [&bar.name, &bar.label, &bar.note].map(|text| escaped(text));
        format!(
            "<div><span>{name}</span><b>{label}</b><small>{note}</small><i style=\"--share:{share:.4}\"></i></div>\n"
        )
    });
    let bars = bars.collect::<String>();
    format!(
        "<div class=\"bars\" role=\"group\" aria-label=\"{title}\">\n<p>{title}</p>\n{bars}</div>\n\n"
    )
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn texts_are_escaped_and_bars_are_proportional_to_their_values() {
        let mut sample = sample(Verdict::InPart);
        let text = page(&sample);
        assert!(text.contains("It missed 5 &amp; &lt;none&gt;."), "{text}");
        assert!(text.contains("<th>missed | found</th>"), "{text}");
        let bar = "<b>5</b><small>told</small><i style=\"--share:0.5000\">";
        assert_eq!(text.matches(bar).count(), 5, "{text}");
        let plot = &mut sample.findings[0].plots[0];
        plot.bars.iter_mut().for_each(|bar| bar.length = 0.0);
        assert!(!bars(plot).contains("NaN"), "all bars are of zeros");
    }
}
