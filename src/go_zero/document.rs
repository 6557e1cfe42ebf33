//! The formats of a configuration, and their parsers.

use super::value::Value;
use super::{invalid, yaml};
use crate::{Error, Result};
use serde_json::error::Category;
use std::path::Path;

/// The format of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// YAML, as go-zero reads it: YAML 1.1 where 1.1 and 1.2 differ, such as for `yes` and `010`.
    Yaml,
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

impl Format {
    /// Returns the format for the extension of a file: `.yaml`, `.yml`, `.toml` or `.json`, in any case.
    ///
    /// # Errors
    ///
    /// `Invalid` if the extension is another one or missing.
    pub fn of(path: &Path) -> Result<Self> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match extension.as_str() {
            "yaml" | "yml" => Ok(Self::Yaml),
            "toml" => Ok(Self::Toml),
            "json" => Ok(Self::Json),
            _ => Err(invalid(
                "the extension of the configuration file is not `.yaml`, `.yml`, `.toml` or `.json`",
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
        // The parser's own message may quote the text, which may contain a password.
        let wrong = "the TOML is malformed, or gives a field twice";
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
    // A data error comes from `Value` and names a field that is given twice. Messages of serde_json may quote the
    // text.
    if error.classify() == Category::Data {
        return invalid(error.to_string());
    }
    let what = "the JSON is malformed";
    invalid(format!("{what}, line=`{}`, column=`{}`", error.line(), error.column()))
}
