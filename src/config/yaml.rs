//! From YAML to fields, and what an error may say of it.

use super::any_case::AnyCase;
use super::invalid;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// Reads `path`, and says so of whatever is wrong with it.
pub(super) fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let shown = path.display();
    let yaml = fs::read_to_string(path).map_err(|error| {
        invalid(format!("a configuration is a file to read, path=`{shown}`")).with_source(error)
    })?;
    parse(&yaml).map_err(|error| {
        let message = format!("the configuration cannot be used, path=`{shown}`");
        Error::new(error.kind(), message).with_source(error)
    })
}

pub(super) fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T> {
    let AnyCase(fields) = serde_saphyr::from_str(yaml).map_err(|error| explain(&error))?;
    Ok(fields)
}

/// What is wrong and where, without any of the text, in which passwords may be: so the error is not
/// kept as the source.
fn explain(error: &serde_saphyr::Error) -> Error {
    use serde_saphyr::Error as Yaml;
    let what = match error.without_snippet() {
        Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => {
            format!("what should stand here is {expected}")
        }
        Yaml::Unexpected { expected, .. } => {
            // It speaks of where a mapping or a sequence starts.
            format!("what should stand here is a {}", expected.trim_end_matches(" start"))
        }
        Yaml::InvalidScalar { ty, .. } => format!("what should stand here is of the type {ty}"),
        _ => "a configuration is YAML, with each field once".to_owned(),
    };
    match error.location() {
        None => invalid(what),
        Some(at) => invalid(format!("{what}, line=`{}`, column=`{}`", at.line(), at.column())),
    }
}
