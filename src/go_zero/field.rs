//! Fields of a configuration: read, checked and reported.

use crate::{Error, ErrorKind, Result};

/// Returns the text unless it is empty: in go-zero an empty field is not set.
pub(super) fn stated(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// Returns the text unless it is empty.
///
/// # Errors
///
/// `Invalid` if it has a variable in it: nothing expands variables, so the text would be used literally.
pub(super) fn literal<'a>(field: &str, text: Option<&'a String>) -> Result<Option<&'a str>> {
    let text = stated(text);
    if text.is_some_and(|text| text.contains("${")) {
        return Err(invalid(format!(
            "`{field}` has `${{` in it: variables are not expanded, state the value itself"
        )));
    }
    Ok(text)
}

/// The error of a field whose value is refused with `error`.
pub(super) fn wrong(field: &str, error: Error) -> Error {
    Error::new(error.kind(), format!("`{field}` cannot be used")).with_source(error)
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
