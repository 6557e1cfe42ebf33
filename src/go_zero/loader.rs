//! The loader of configurations.

use super::document::Format;
use super::invalid;
use super::node::Node;
use super::variables::expand;
use super::wrong::Wrong;
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::env::{self, VarError};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A loader of configurations, like go-zero's `conf.Load`.
///
/// It reads a [`ServerConfig`](super::ServerConfig), a `ClientConfig`, or a type of your own that contains them. An
/// error names the field and the cause, and never quotes the text, which may contain passwords.
///
/// | mode | `${VAR}` and `$VAR` |
/// | --- | --- |
/// | [`Loader::new`] | are refused in every text that is read, since go-zero may or may not expand them |
/// | [`use_env`](Self::use_env) | are replaced by the environment's values everywhere in the text, as with `conf.UseEnv`; unset variables expand to nothing |
/// | [`literal`](Self::literal) | are not special, as without `conf.UseEnv` |
///
/// ```
/// use service_registry::go_zero::{Format, Loader, ServerConfig};
///
/// # fn main() -> service_registry::Result<()> {
/// let loader = Loader::new().use_variables(|name| (name == "PORT").then(|| "8080".to_owned()));
/// let yaml = "{Name: user.rpc, ListenOn: '0.0.0.0:${PORT}'}";
/// let config: ServerConfig = loader.parse(Format::Yaml, yaml)?;
/// assert_eq!(config.listen_on().to_string(), "0.0.0.0:8080");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Loader {
    variables: Variables,
}

#[derive(Clone, Default)]
enum Variables {
    #[default]
    Refused,
    Literal,
    Expanded(Arc<Lookup>),
}

/// A function that returns the value of a variable.
type Lookup = dyn Fn(&str) -> Result<Option<String>> + Send + Sync;

impl Loader {
    /// Returns a loader that refuses variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces each `${VAR}` and `$VAR` by the environment's value before the text is parsed, like go-zero's
    /// `conf.UseEnv`.
    ///
    /// Everything that Go takes for a variable expands to nothing unless it is set: `pa$$word` becomes `paword`.
    #[must_use]
    pub fn use_env(mut self) -> Self {
        self.variables = Variables::Expanded(Arc::new(variable));
        self
    }

    /// Replaces variables as [`use_env`](Self::use_env) does, with the values that `lookup` returns.
    #[must_use]
    pub fn use_variables(
        mut self,
        lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.variables = Variables::Expanded(Arc::new(move |name| Ok(lookup(name))));
        self
    }

    /// Treats a `$` as an ordinary character, as in the password `pa$word`.
    #[must_use]
    pub fn literal(mut self) -> Self {
        self.variables = Variables::Literal;
        self
    }

    /// Reads a file in the format of its [extension](Format::of).
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the path, if the file cannot be read, or if a field or the syntax is wrong.
    pub fn read<T: DeserializeOwned>(&self, path: impl AsRef<Path>) -> Result<T> {
        let path = path.as_ref();
        let read = || {
            let format = Format::of(path)?;
            let text = fs::read_to_string(path).map_err(|error| {
                invalid("the file cannot be read as UTF-8 text").with_source(error)
            })?;
            self.parse(format, &text)
        };
        read().map_err(|error| {
            let message = format!("the configuration cannot be used, path=`{}`", path.display());
            Error::new(error.kind(), message).with_source(error)
        })
    }

    /// Parses a text.
    ///
    /// # Errors
    ///
    /// `Invalid`, naming the wrong field or line.
    pub fn parse<T: DeserializeOwned>(&self, format: Format, text: &str) -> Result<T> {
        let value = match &self.variables {
            Variables::Expanded(lookup) => format.parse(&expand(text, |name| lookup(name))?)?,
            Variables::Refused | Variables::Literal => format.parse(text)?,
        };
        let literal = !matches!(self.variables, Variables::Refused);
        let _reading = Reading::begin(literal);
        T::deserialize(Node::new(&value, literal)).map_err(Wrong::into_error)
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variables = match self.variables {
            Variables::Refused => "refused",
            Variables::Literal => "literal",
            Variables::Expanded(_) => "expanded",
        };
        f.debug_struct("Loader").field("variables", &variables).finish()
    }
}

fn variable(name: &str) -> Result<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(invalid(format!(
            "the environment variable is not UTF-8, name=`{}`",
            name.escape_debug()
        ))),
    }
}

thread_local! {
    static LITERAL: Cell<bool> = const { Cell::new(false) };
}

/// Sets `LITERAL` on this thread while it lives.
struct Reading {
    before: bool,
}

impl Reading {
    fn begin(literal: bool) -> Self {
        Self { before: LITERAL.replace(literal) }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        LITERAL.set(self.before);
    }
}

/// Returns whether the [`Loader`] that reads on this thread treats `$` as an ordinary character. This goes through a
/// thread-local, since a deserializer cannot pass it to a type whose fields serde flattens.
pub(super) fn is_literal() -> bool {
    LITERAL.get()
}

/// Reads a configuration in YAML with [`Loader::parse`]; variables are refused.
///
/// ```
/// use serde::Deserialize;
/// use service_registry::go_zero::{self, ServerConfig};
///
/// #[derive(Debug, Deserialize)]
/// struct Config {
///     #[serde(rename = "Rpc")]
///     rpc: ServerConfig,
///     #[serde(rename = "CacheSize", default)]
///     cache_size: u32,
/// }
///
/// # fn main() -> service_registry::Result<()> {
/// let config: Config = go_zero::from_yaml("Rpc: {Name: user.rpc, ListenOn: ':8080'}")?;
/// assert_eq!(config.rpc.name(), "user.rpc");
///
/// let wrong = "{Rpc: {Name: a, ListenOn: ':1'}, CacheSize: s3cret}";
/// let error = go_zero::from_yaml::<Config>(wrong).unwrap_err();
/// assert_eq!(error.to_string(), "`CacheSize`: wrong value, expected u32");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Loader::parse`].
pub fn from_yaml<T: DeserializeOwned>(yaml: &str) -> Result<T> {
    Loader::new().parse(Format::Yaml, yaml)
}

/// Reads a configuration file with [`Loader::read`]; variables are refused.
///
/// # Errors
///
/// Those of [`Loader::read`].
pub fn read<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T> {
    Loader::new().read(path)
}
