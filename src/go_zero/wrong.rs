//! The error of a configuration value, and its position.

use super::invalid;
use crate::Error;
use serde::de::{self, Expected, Unexpected};
use std::fmt;

/// An error of a value, with the path of its field. It never quotes the text, which may contain passwords.
#[derive(Debug)]
pub(super) struct Wrong {
    path: String,
    what: String,
}

impl Wrong {
    /// Puts the field `name` in front of the path.
    pub(super) fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path = format!("{}{dot}{}", name.escape_debug(), self.path);
        self
    }

    pub(super) fn into_error(self) -> Error {
        invalid(self.to_string())
    }

    fn expected(what: &dyn fmt::Display) -> Self {
        Self { path: String::new(), what: format!("wrong value, expected {what}") }
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

/// Overrides serde's default messages, which quote the value.
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
