//! From YAML to fields, and what an error may say of it.

use super::invalid;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::fs;
use std::path::Path;

/// Reads a configuration of your own, of which a [`ServerConfig`](super::ServerConfig) or a `ClientConfig`
/// is a part.
///
/// What makes it better than a YAML library of your choice is what an error shows: the line and the column,
/// what your own types say, and nothing of the text, in which passwords may be.
///
/// ```
/// use serde::Deserialize;
/// use service_registry::go_zero::{self, ServerConfig};
///
/// #[derive(Debug, Deserialize)]
/// struct Config {
///     #[serde(rename = "Rpc")]
///     rpc: ServerConfig,
/// }
///
/// # fn main() -> service_registry::Result<()> {
/// let config: Config = go_zero::from_yaml("Rpc: {Name: user.rpc, ListenOn: ':8080'}")?;
/// assert_eq!(config.rpc.service().as_str(), "user.rpc");
///
/// let wrong = "{Rpc: {Name: a, ListenOn: ':1', Weight: x, Etcd: {Pass: s3cret}}}";
/// let error = go_zero::from_yaml::<Config>(wrong).unwrap_err();
/// assert_eq!(error.to_string(), "what should stand here is of the type u32, line=`1`, column=`41`");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `Invalid`, saying what is wrong, and where.
pub fn from_yaml<T: DeserializeOwned>(yaml: &str) -> Result<T> {
    serde_saphyr::from_str(yaml).map_err(|error| explain(&error))
}

/// Reads a configuration of your own from a file: [`from_yaml`], from its text.
///
/// # Errors
///
/// `Invalid`, with the path: if it cannot be read, or what is wrong with it and where.
pub fn read<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    read_with(path.as_ref(), from_yaml)
}

/// Reads `path`, and says so of whatever is wrong with it.
pub(super) fn read_with<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T>) -> Result<T> {
    let shown = path.display();
    let yaml = fs::read_to_string(path).map_err(|error| {
        invalid(format!("a configuration is a file to read, path=`{shown}`")).with_source(error)
    })?;
    parse(&yaml).map_err(|error| {
        let message = format!("the configuration cannot be used, path=`{shown}`");
        Error::new(error.kind(), message).with_source(error)
    })
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
        // What a type has to say of itself: those here say nothing secret.
        Yaml::Message { msg, .. } => msg.clone(),
        Yaml::InvalidScalar { ty, .. } => format!("what should stand here is of the type {ty}"),
        _ => "a configuration is YAML, with each field once".to_owned(),
    };
    match error.location() {
        None => invalid(what),
        Some(at) => invalid(format!("{what}, line=`{}`, column=`{}`", at.line(), at.column())),
    }
}
