//! `${VAR}` and `$VAR` with the syntax of Go's `os.Expand`, which go-zero's `conf.UseEnv` uses.

/// The syntax element that a `$` begins.
enum Dollar<'a> {
    /// A variable, and its length in bytes after the `$`.
    Variable(&'a str, usize),
    /// A malformed `${`, and its length in bytes after the `$`. It expands to nothing.
    Broken(usize),
    /// A literal `$`.
    Plain,
}

/// Replaces each variable by its value. An unset variable expands to nothing.
pub(super) fn expand<E>(
    text: &str,
    mut value: impl FnMut(&str) -> Result<Option<String>, E>,
) -> Result<String, E> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = after;
        match dollar(after) {
            Dollar::Variable(name, length) => {
                expanded.push_str(&value(name)?.unwrap_or_default());
                rest = &after[length..];
            }
            Dollar::Broken(length) => rest = &after[length..],
            Dollar::Plain => expanded.push('$'),
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Returns whether the text contains a variable or a malformed `${`.
pub(super) fn has_variable(text: &str) -> bool {
    let mut parts = text.split('$').skip(1);
    // `split` separates the two `$` of the variable `$$`, so it is searched for directly.
    let doubled = text.contains("$$");
    doubled || parts.any(|after| !matches!(dollar(after), Dollar::Plain))
}

/// Returns the element that a `$` in front of `after` begins.
fn dollar(after: &str) -> Dollar<'_> {
    let bytes = after.as_bytes();
    match bytes {
        [] => Dollar::Plain,
        [b'{', special, b'}', ..] if is_special(*special) => Dollar::Variable(&after[1..2], 3),
        [b'{', b'}', ..] => Dollar::Broken(2),
        [b'{', ..] => match after.find('}') {
            Some(end) => Dollar::Variable(&after[1..end], end + 1),
            None => Dollar::Broken(1),
        },
        [special, ..] if is_special(*special) => Dollar::Variable(&after[..1], 1),
        _ => match bytes.iter().take_while(|byte| is_of_name(**byte)).count() {
            0 => Dollar::Plain,
            length => Dollar::Variable(&after[..length], length),
        },
    }
}

/// Returns whether the byte names a special shell variable. The environment never contains one.
fn is_special(byte: u8) -> bool {
    byte.is_ascii_digit() || b"*#$@!?-".contains(&byte)
}

fn is_of_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::{expand, has_variable};
    use std::convert::Infallible;

    fn expanded(text: &str) -> String {
        let value = |name: &str| Ok::<_, Infallible>((name == "A").then(|| "$x".to_owned()));
        expand(text, value).unwrap()
    }

    /// The table lists results of `os.Expand` in Go 1.26.
    #[test]
    fn variables_are_expanded_as_in_go() {
        for (text, expected) in [
            ("", ""),
            ("no variable", "no variable"),
            ("$A", "$x"),
            ("${A}", "$x"),
            ("a${A}b$A-c", "a$xb$x-c"),
            ("$AB", ""),
            ("${A B}", ""),
            ("pa$$word", "paword"),
            ("$1$*x", "x"),
            ("${*}y", "y"),
            ("${}z", "z"),
            ("${A", "A"),
            ("$", "$"),
            ("a$ $.", "a$ $."),
            ("$\u{e9}", "$\u{e9}"),
            ("$$A", "A"),
        ] {
            assert_eq!(expanded(text), expected, "{text}");
            assert_eq!(has_variable(text), expected != text, "{text}");
        }
    }
}
