//! What is wrong with a configuration, and where.

use super::invalid;
use crate::Error;
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// What is wrong with a value, and the names of the fields that it stands in. It repeats nothing of the text, in which
/// passwords may be.
#[derive(Debug)]
pub(super) struct Wrong {
    path: String,
    what: String,
}

impl Wrong {
    /// The same, in the field `name`.
    pub(super) fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path = format!("{}{dot}{}", name.escape_debug(), self.path);
        self
    }

    pub(super) fn into_error(self) -> Error {
        invalid(self.to_string())
    }

    fn expected(what: &dyn fmt::Display) -> Self {
        Self { path: String::new(), what: format!("what should stand here is {what}") }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "`{}`: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for Wrong {}

/// What serde says of a value shows it, so it is not asked.
impl de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self { path: String::new(), what: what.to_string() }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(&expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(&expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::expected(&expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::expected(&format_args!("one of `{}`", expected.join("`, `")))
    }
}
