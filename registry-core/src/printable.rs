//! Escaping of untrusted text for terminals and logs.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// Escapes every unprintable character of `text`: control characters, line breaks, bidirectional and zero-width
/// characters, and combining characters, some of which are invisible.
///
/// Text from a store, a server or a file must not send control sequences to a terminal, forge a log line, or imitate
/// other text. Quotes and backslashes are not escaped, so escaped text is not escaped again. The result is for people
/// and cannot be parsed back.
///
/// ```
/// use registry_core::printable;
///
/// assert_eq!(printable("ol\u{e9}"), "ol\u{e9}");
/// assert_eq!(printable("a\nb\u{202e}"), "a\\nb\\u{202e}");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    // The fast path: most text is plain ASCII.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if is_printable(char) {
            escaped.push(char);
        } else {
            escaped.extend(char.escape_debug());
        }
    }
    Cow::Owned(escaped)
}

/// Returns `text` escaped by [`printable`].
pub(crate) fn into_printable(text: String) -> String {
    match printable(&text) {
        Cow::Owned(escaped) => Some(escaped),
        Cow::Borrowed(_) => None,
    }
    .unwrap_or(text)
}

/// Returns whether [`printable`] leaves a character unchanged.
fn is_printable(char: char) -> bool {
    // `std` exposes its Unicode tables only through `escape_debug`.
    matches!(char, '"' | '\'' | '\\') || char.escape_debug().len() == 1
}

/// A copy of a foreign error and its sources with [`printable`] messages.
#[derive(Debug)]
pub(crate) struct PrintableError {
    message: String,
    source: Option<Box<Self>>,
}

impl PrintableError {
    /// Returns a printable copy of `error` if its message or that of a source is not printable.
    pub(crate) fn replacing(error: &(dyn StdError + 'static)) -> Option<Self> {
        let chain = std::iter::successors(Some(error), |error| (*error).source());
        let messages: Vec<_> = chain.map(ToString::to_string).collect();
        if messages.iter().all(|message| message.chars().all(is_printable)) {
            return None;
        }
        messages.iter().rev().fold(None, |source, message| {
            let message = printable(message).into_owned();
            Some(Self { message, source: source.map(Box::new) })
        })
    }
}

impl fmt::Display for PrintableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for PrintableError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bidirectional_and_zero_width_characters_are_escaped() {
        let hostile = [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}', // control
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{61c}', // direction
            '\u{200b}',
            '\u{200d}',
            '\u{2060}',
            '\u{feff}',
            '\u{ad}',
            '\u{34f}',
            '\u{fe0f}', // no width
            '\u{2028}',
            '\u{2029}',
            '\u{a0}',
            '\u{e0041}', // lines, spaces, tags
        ];
        for char in hostile {
            let text = format!("a{char}b");
            let shown = printable(&text);
            assert!(!shown.contains(char) && shown.starts_with("a\\"), "{char:?}: {shown:?}");
        }
    }

    #[test]
    fn printable_text_is_borrowed_and_escaped_text_is_not_escaped_again() {
        let good =
            ["", "user.rpc", "\"it's\" a\\b", "ol\u{e9} \u{4e16}\u{754c} \u{1f600}", "a\\nb"];
        for text in good {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        let once = printable("\u{1b}[2J\"\n").into_owned();
        assert_eq!((&*once, &*printable(&once)), ("\\u{1b}[2J\"\\n", "\\u{1b}[2J\"\\n"));
    }
}
