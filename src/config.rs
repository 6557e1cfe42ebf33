//! The configuration of a client, read from a file or from the environment.

use crate::store::Target;
use crate::{Client, ClientBuilder, Error, ErrorKind, Result};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use std::env::{self, VarError};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The environment variable that names the registry.
pub const URL_VARIABLE: &str = "REGISTRY_URL";

/// The configuration of a client. It deserializes from any serde format.
///
/// ```
/// use service_registry::config::ClientConfig;
///
/// let config: ClientConfig = serde_json::from_str(r#"{"url": "mem://demo", "ttl": "5s"}"#).unwrap();
/// let client = config.builder(); // .connect().await
/// ```
///
/// `Debug` shows no password.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The URL of the registry, with its options.
    pub url: String,
    /// The default ttl of registrations and views, such as `10s` or `1m 30s`. If unset, that of the URL.
    #[serde(default, deserialize_with = "duration")]
    pub ttl: Option<Duration>,
    /// The namespace: see [`ClientBuilder::namespace`].
    #[serde(default)]
    pub namespace: Option<String>,
    /// The folder for snapshot files: see [`ClientBuilder::snapshots`].
    #[serde(default)]
    pub snapshots: Option<PathBuf>,
}

impl ClientConfig {
    /// Returns the configuration for the registry that `url` names.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), ttl: None, namespace: None, snapshots: None }
    }

    /// Reads `REGISTRY_URL`, which is required, and `REGISTRY_TTL`, `REGISTRY_NAMESPACE` and `REGISTRY_SNAPSHOTS`. An
    /// empty variable counts as unset.
    ///
    /// ```no_run
    /// use service_registry::config::ClientConfig;
    ///
    /// # async fn start() -> service_registry::Result<()> {
    /// let client = ClientConfig::from_env()?.builder().connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` if `REGISTRY_URL` is not set, `REGISTRY_TTL` is not a duration, or a variable is not UTF-8.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| env::var(name))
    }

    fn from_variables(read: impl Fn(&str) -> Result<String, VarError>) -> Result<Self> {
        let variable = |name: &str| match read(name) {
            Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => {
                Err(invalid(format!("the variable `{name}` is not UTF-8")))
            }
        };
        let url = variable(URL_VARIABLE)?.ok_or_else(|| {
            invalid(format!(
                "`{URL_VARIABLE}` is not set: set it to a registry, such as `etcd://127.0.0.1:2379`"
            ))
        })?;
        let ttl = variable("REGISTRY_TTL")?.map(|ttl| {
            humantime::parse_duration(&ttl).map_err(|error| {
                let message = format!(
                    "`REGISTRY_TTL` is not a duration such as `10s`, got=`{}`",
                    ttl.escape_debug()
                );
                invalid(message).with_source(error)
            })
        });
        Ok(Self {
            url,
            ttl: ttl.transpose()?,
            namespace: variable("REGISTRY_NAMESPACE")?,
            snapshots: variable("REGISTRY_SNAPSHOTS")?.map(PathBuf::from),
        })
    }

    /// Returns a builder of a client for this registry.
    pub fn builder(&self) -> ClientBuilder {
        let mut builder = Client::builder(&self.url);
        if let Some(ttl) = self.ttl {
            builder = builder.ttl(ttl);
        }
        if let Some(namespace) = &self.namespace {
            builder = builder.namespace(namespace);
        }
        if let Some(snapshots) = &self.snapshots {
            builder = builder.snapshots(snapshots);
        }
        builder
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.url.parse::<Target>().map(|target| target.to_string());
        f.debug_struct("ClientConfig")
            .field("url", &target.as_deref().unwrap_or("no URL"))
            .field("ttl", &self.ttl)
            .field("namespace", &self.namespace)
            .field("snapshots", &self.snapshots)
            .finish()
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    humantime::parse_duration(&text).map(Some).map_err(|error| {
        D::Error::custom(format!(
            "the ttl is not a duration such as `10s`: {error}, got=`{}`",
            text.escape_debug()
        ))
    })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ClientConfig> {
        ClientConfig::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
        })
    }

    #[test]
    fn from_env_reads_every_variable_and_debug_hides_the_password() {
        let config = read(&[
            ("REGISTRY_URL", "etcd://app:S3CRET@h"),
            ("REGISTRY_TTL", "1m 30s"),
            ("REGISTRY_NAMESPACE", "prod"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.ttl, Some(Duration::from_secs(90)));
        assert_eq!(config.namespace.as_deref(), Some("prod"));
        assert!(!format!("{config:?} {:?}", config.builder()).contains("S3CRET"));
    }

    #[test]
    fn from_env_error_names_the_missing_or_invalid_variable() {
        let error = read(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("REGISTRY_URL"), "{error}");
        let error = read(&[("REGISTRY_URL", "mem://"), ("REGISTRY_TTL", "soon")]).unwrap_err();
        assert!(
            error.to_string().contains("`REGISTRY_TTL`") && error.to_string().contains("`soon`")
        );
    }

    #[test]
    fn a_configuration_file_is_parsed_and_an_unknown_field_is_refused() {
        let config: ClientConfig =
            serde_json::from_str(r#"{"url": "mem://demo", "ttl": "5s", "snapshots": "/tmp"}"#)
                .unwrap();
        assert_eq!((config.url.as_str(), config.ttl), ("mem://demo", Some(Duration::from_secs(5))));
        assert!(serde_json::from_str::<ClientConfig>(r#"{"url": "mem://", "tll": "5s"}"#).is_err());
        assert!(serde_json::from_str::<ClientConfig>(r#"{"url": "mem://", "ttl": "5"}"#).is_err());
    }
}
