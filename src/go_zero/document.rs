//! From a text in one of the formats to values.

use super::value::Value;
use super::{invalid, yaml};
use crate::{Error, Result};
use serde_json::error::Category;
use std::path::Path;

/// The format of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// YAML, as go-zero reads it: where YAML 1.1 and 1.2 differ, as in `yes` and `010`, it is 1.1.
    Yaml,
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// The format that the extension of a file's name states: `.yaml`, `.yml`, `.toml` or `.json`, in any case.
    ///
    /// # Errors
    ///
    /// `Invalid` if it is another, or there is none.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "yaml" | "yml" => Ok(Self::Yaml),
            "toml" => Ok(Self::Toml),
            "json" => Ok(Self::Json),
            _ => Err(invalid(
                "the extension of a configuration is `.yaml`, `.yml`, `.toml` or `.json`",
            )),
        }
    }

    pub(super) fn parse(self, text: &str) -> Result<Value> {
        match self {
            Self::Yaml => yaml::parse(text),
            Self::Toml => parse_toml(text),
            Self::Json => parse_json(text),
        }
    }
}

fn parse_toml(text: &str) -> Result<Value> {
    let value: Value = toml::from_str(text).map_err(|error| {
        // What it says may quote the text.
        let wrong = "a configuration in TOML is well-formed, with each field once";
        let Some(span) = error.span() else { return invalid(wrong) };
        let line = text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
        invalid(format!("{wrong}, line=`{line}`"))
    })?;
    Ok(value.with_whole_floats())
}

fn parse_json(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| explain_json(&error))
}

fn explain_json(error: &serde_json::Error) -> Error {
    // What `Value` says is of a field that stands twice. What serde_json says of the text may quote it.
    if error.classify() == Category::Data {
        return invalid(error.to_string());
    }
    let what = "a configuration in JSON is one well-formed value";
    invalid(format!("{what}, line=`{}`, column=`{}`", error.line(), error.column()))
}
