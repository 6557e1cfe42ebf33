//! Connectors: how a URL becomes a registry, open to stores of others.

use crate::diagnosis::Finding;
use crate::{Error, ErrorKind, Registry, Result, Target};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// Connects to the stores of some URL schemes.
///
/// A client is given connectors when it is built; there is no global table of them.
///
/// ```
/// use async_trait::async_trait;
/// use registry_core::{ConnectOptions, Connected, Connector, Result, Target};
/// use registry_mem::MemRegistry;
/// use std::sync::Arc;
///
/// /// `scratch://` is a new registry in memory each time.
/// #[derive(Debug)]
/// struct Scratch;
///
/// #[async_trait]
/// impl Connector for Scratch {
///     fn schemes(&self) -> &[&str] {
///         &["scratch"]
///     }
///
///     async fn connect(&self, target: &Target, _options: &ConnectOptions) -> Result<Connected> {
///         target.allow_options(&[])?;
///         Ok(Connected::new(Arc::new(MemRegistry::new())))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// let connected = Scratch.connect(&"scratch://".parse()?, &ConnectOptions::default()).await?;
/// assert_eq!(connected.registry().default_ttl(), None);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Returns the schemes of the URLs that it connects to, in lower case.
    fn schemes(&self) -> &[&str];

    /// Connects to the store that `target` names.
    ///
    /// # Errors
    ///
    /// `Invalid` if a part of the URL is wrong, or the store has no namespaces and the options state one. `Unavailable` if the
    /// store does not answer, `Denied` if it
    /// refuses the credentials.
    async fn connect(&self, target: &Target, options: &ConnectOptions) -> Result<Connected>;

    /// Returns a handle to the store that `target` names, without a request: its first call connects.
    ///
    /// What [`connect`](Self::connect) checks of the store is checked then, and each call returns what is wrong
    /// until it is corrected.
    ///
    /// # Errors
    ///
    /// `Invalid` if a part of the URL is wrong. `Unsupported` unless the connector implements it.
    fn connect_lazy(&self, target: &Target, options: &ConnectOptions) -> Result<Connected> {
        let _ = options;
        let message = format!(
            "the connector has no lazy connections: connect eagerly, scheme=`{}`",
            target.scheme()
        );
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

/// Options of a connection that are no part of the URL.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// The namespace: services of one are not seen in another. Unless set, it is what the URL says.
    ///
    /// A connector puts it where the URLs of its store have it, such as the path of `etcd://` or the option `prefix` of
    /// `redis://`, and refuses a URL that states another.
    pub namespace: Option<String>,
}

impl ConnectOptions {
    /// Sets the [namespace](Self::namespace).
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Returns `target` with the namespace as its path, if there is one.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` has another path.
    pub fn in_path(&self, target: &Target) -> Result<Target> {
        let Some(namespace) = &self.namespace else { return Ok(target.clone()) };
        check_namespace(namespace, Some(target.path()).filter(|path| !path.is_empty()))?;
        Ok(target.clone().with_path(namespace.as_str()))
    }

    /// Returns `target` with the namespace as the option `name`, if there is one.
    ///
    /// # Errors
    ///
    /// `Invalid` if `target` has another value of it.
    pub fn in_option(&self, name: &str, target: &Target) -> Result<Target> {
        let Some(namespace) = &self.namespace else { return Ok(target.clone()) };
        check_namespace(namespace, target.option(name))?;
        Ok(target.clone().with_option(name, namespace.as_str()))
    }
}

fn check_namespace(namespace: &str, stated: Option<&str>) -> Result<()> {
    match stated {
        Some(stated) if stated != namespace => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "the URL states another namespace: leave out one of them, url=`{stated}`, got=`{namespace}`"
            ),
        )),
        _ => Ok(()),
    }
}

/// A store that was connected to.
#[derive(Clone, Debug)]
pub struct Connected {
    registry: Arc<dyn Registry>,
    diagnose: Option<Arc<dyn Diagnose>>,
}

impl Connected {
    /// Wraps a registry without checks of its own.
    pub fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, diagnose: None }
    }

    /// Adds the checks of the store.
    #[must_use]
    pub fn with_diagnose(mut self, diagnose: Arc<dyn Diagnose>) -> Self {
        self.diagnose = Some(diagnose);
        self
    }

    /// Returns the registry.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        &self.registry
    }

    /// Returns the checks of the store, if it has any.
    pub fn diagnose(&self) -> Option<&Arc<dyn Diagnose>> {
        self.diagnose.as_ref()
    }
}

/// A store that can look for what is wrong with itself.
#[async_trait]
pub trait Diagnose: fmt::Debug + Send + Sync + 'static {
    /// Looks for what is wrong with the store: whether it answers, what these credentials may do, how its
    /// servers are set up, and what lies there that no registry put there.
    async fn diagnose(&self) -> Vec<Finding>;
}
